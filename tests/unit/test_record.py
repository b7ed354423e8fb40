"""The data classes behave as dataclasses and named tuples do, without their price."""

from __future__ import annotations

import copy
import pickle

import pytest

from storagectl import model
from storagectl.record import Record, Row, field


class Point(Record):
    x: int
    y: int = 2
    seen: list[int] = field(default_factory=list)


def test_positions_names_and_defaults() -> None:
    assert Point(1) == Point(x=1, y=2, seen=[])
    assert Point(1, 3).y == 3
    assert Point(1, seen=[4]).seen == [4]


def test_a_factory_makes_a_new_default_for_each_object() -> None:
    first, second = Point(1), Point(1)
    first.seen.append(9)
    assert second.seen == []


@pytest.mark.parametrize(
    ("values", "named", "wrong"),
    [((), {}, "x"), ((1,), {"z": 1}, "z"), ((1, 2, [], 4), {}, ""), ((), {"y": 1}, "x")],
)
def test_wrong_fields_are_refused(
    values: tuple[object, ...], named: dict[str, object], wrong: str
) -> None:
    with pytest.raises(TypeError, match=rf"Point: wrong or missing fields.*{wrong}"):
        Point(*values, **named)


def test_replace_leaves_the_original() -> None:
    first = Point(1)
    second = first.replace(y=5)
    assert (first.y, second.y, second.x) == (2, 5, 1)
    with pytest.raises(TypeError, match="nothing"):
        first.replace(nothing=1)


def test_equality_is_by_class_and_value() -> None:
    class Other(Record):
        x: int
        y: int = 2
        seen: list[int] = field(default_factory=list)

    assert Point(1) != Point(2)
    assert Point(1) != Other(1)
    assert Point(1) != (1, 2, [])


def test_repr_can_be_evaluated() -> None:
    point = Point(1, seen=[3])
    assert repr(point) == "Point(x=1, y=2, seen=[3])"
    assert eval(repr(point)) == point


def test_records_are_not_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_permissions_are_false_when_nothing_is_said() -> None:
    assert not model.Permissions()
    assert model.Permissions(owner=0)
    assert model.Permissions(mode=0)
    assert model.Permissions(label="x")


def test_every_record_of_the_model_can_be_made_and_compared() -> None:
    kinds = [
        kind
        for kind in vars(model).values()
        if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
    ]
    assert len(kinds) >= 14
    for kind in kinds:
        values = [f"value {number}" for number in range(len(kind._fields))]
        made = kind(*values)
        assert [getattr(made, name) for name in kind._fields] == values
        assert made == made.replace()


class Place(Row):
    x: int
    y: int
    label: str = "-"


def test_a_row_is_a_named_tuple() -> None:
    one = Place(1, y=2)
    assert one == (1, 2, "-")
    assert (one.x, one.y, one.label) == (1, 2, "-")
    x, y, label = one
    assert (x, y, label) == (1, 2, "-")
    assert one._replace(label="a") == Place(1, 2, "a") == Place(y=2, label="a", x=1)
    assert one._asdict() == {"x": 1, "y": 2, "label": "-"}
    assert repr(one) == "Place(x=1, y=2, label='-')"
    assert {one: 1}[Place(1, 2)] == 1
    assert Place._fields == ("x", "y", "label")
    for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (twin, type(twin)) == (one, Place)
    with pytest.raises(AttributeError):
        one.x = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}), ((1,), {}), ((1, 2, "a", 4), {}), ((1, 2), {"x": 3}), ((1, 2), {"z": 3}),
        ((1, 2, "a"), {"label": "b"}), ((1, 2, "a"), {"z": 3}),
    ],
)  # fmt: skip
def test_a_row_has_its_fields_and_no_others(
    values: tuple[object, ...], named: dict[str, object]
) -> None:
    with pytest.raises(TypeError, match="wrong or missing fields"):
        Place(*values, **named)  # type: ignore[arg-type]
