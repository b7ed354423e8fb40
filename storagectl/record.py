"""Plain data classes that cost nothing to define.

Generating the methods of a dataclass takes 0.5 ms, sixteen of them a fifth of the time
that `pool-list` has, those of a named tuple 0.1 ms; here all classes share these few.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NamedTuple as Row
    from typing import Self

__all__ = ["Record", "Row", "field"]

T = TypeVar("T")


class Factory:
    """A default value that is made anew for each object."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], T]) -> T:
    """Declare a default that is made anew for each object."""
    return Factory(default_factory)  # type: ignore[return-value]


@dataclass_transform(field_specifiers=(field,))
class Record:
    """Base of data classes: annotated names are the fields, in order, as in a dataclass."""

    _fields: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[dict[str, Any]]
    _factories: ClassVar[dict[str, Callable[[], Any]]]

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(cls.__annotations__)
        given = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
        cls._defaults = {n: v for n, v in given.items() if not isinstance(v, Factory)}
        cls._factories = {n: v.make for n, v in given.items() if isinstance(v, Factory)}

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self._fields
        state = self.__dict__
        if len(values) == len(fields) and not named:
            state.update(zip(fields, values, strict=True))
            return
        state.update(self._defaults)
        state.update(zip(fields, values))  # noqa: B905
        state.update(named)
        for name, make in self._factories.items():
            if name not in state:
                state[name] = make()
        if len(state) != len(fields) or len(values) > len(fields):
            wrong = set(fields).symmetric_difference(state)
            raise TypeError(f"{type(self).__name__}: wrong or missing fields {sorted(wrong)}")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        if changes.keys() - self.__dict__.keys():
            return type(self)(**{**self.__dict__, **changes})  # raises
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"


if not TYPE_CHECKING:

    class Row(tuple):
        """What typing.NamedTuple is, for classes that each command imports: made of few."""

        __slots__ = ()
        _fields: ClassVar[tuple[str, ...]]
        _field_defaults: ClassVar[dict[str, Any]]

        def __init_subclass__(cls) -> None:
            cls._fields = tuple(cls.__annotations__)
            given = cls.__dict__
            cls._field_defaults = {name: given[name] for name in cls._fields if name in given}
            for place, name in enumerate(cls._fields):
                setattr(cls, name, _tuplegetter(place, None))

        def __new__(cls, *values: Any, **named: Any) -> Self:
            fields = cls._fields
            if named or len(values) != len(fields):
                given = dict(zip(fields, values, strict=False))
                state = cls._field_defaults | given | named
                if len(values) > len(fields) or given.keys() & named or state.keys() != set(fields):
                    raise TypeError(f"{cls.__name__}: wrong or missing fields")
                values = map(state.__getitem__, fields)
            return super().__new__(cls, values)

        def _replace(self, **changes: Any) -> Self:
            return type(self)(**{**self._asdict(), **changes})

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

        def __repr__(self) -> str:
            fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({fields})"
