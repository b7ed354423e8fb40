"""Which devices a pool was defined or built with, so that no other one is taken for them.

A device that has got the name of another one, as after a reboot, is refused.  A pool that
nothing is known of, such as one that an older program has defined, is as before: what its
devices are is noted at its next start.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from storagectl.errors import OperationInvalid, StorageError, SystemFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storagectl.backends import Backend
    from storagectl.store import Store


def remember(store: Store, backend: Backend, *, anew: bool = False) -> None:
    """Note what the sources of a defined pool are now; `anew` forgets those it had before.

    A dry run only forgets: what its script makes is not there yet.  That a start or a build
    can't read the note, or finds no place for it, is no failure of it: it is done by then.
    """
    name = backend.pool.name
    try:
        known = store.identities(name)
    except SystemFailure:
        if anew:
            raise
        return
    if backend.host.plans:
        if anew and known:
            store.keep_identities(name, {})
        return
    try:
        now = backend.identities(built=not anew)
    except StorageError:
        now = {}
    wanted = now if anew else {**known, **now}
    if wanted != known:
        with contextlib.nullcontext() if anew else contextlib.suppress(StorageError):
            store.keep_identities(name, wanted)


@contextlib.contextmanager
def remembered_anew(store: Store, backend: Backend) -> Iterator[None]:
    """Note what the sources of a pool are while it is defined; when that fails, as it was."""
    before = store.identities(backend.pool.name)
    remember(store, backend, anew=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(StorageError):
            store.keep_identities(backend.pool.name, before)
        raise


def require_same(store: Store, backend: Backend, *, build: bool = False) -> None:
    """Refuse a pool one of whose sources is not the one that it was.  Raises: OperationInvalid."""
    known = store.identities(backend.pool.name)
    if not known:
        return
    import shlex

    from storagectl.backends.identity import words

    name = shlex.quote(backend.pool.name)
    for what, now in backend.mistaken(known, build=build):
        raise OperationInvalid(
            f"'{what}' is not what pool '{backend.pool.name}' was defined with:"
            f" it was {words(known[what])}, it is {words(now)}",
            hint="if this one is right: storagectl pool-dumpxml --inactive"
            f" {name} | storagectl pool-define /dev/stdin",
        )
