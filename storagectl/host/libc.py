"""Functions of the C library that Python has not.

What the package ctypes defines for everybody takes longer to import than a short command has;
what it is made of takes no time.
"""

from __future__ import annotations

import _ctypes
import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A C int, which a function of these returns."""

    _type_ = "i"


class Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A C long, as an argument that an int is too short for."""

    _type_ = "l"


class Function(_ctypes.CFuncPtr):
    """A function that keeps errno for `failure`."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = Int


@cache
def function(name: str) -> Callable[..., int]:
    """Return a function by its name: it takes ints, bytes and Long, and returns an int."""
    program = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]
    found: Callable[..., int] = Function(_ctypes.dlsym(program, name))
    return found


def failure() -> OSError:
    """Return the error of the function that has just failed."""
    code = _ctypes.get_errno()
    return OSError(code, os.strerror(code))
