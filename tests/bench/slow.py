"""Run storagectl as on storage where each operation on a volume takes 5 ms.

python tests/bench/slow.py [--one-by-one] [storagectl's arguments]
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from storagectl.__main__ import main
from storagectl.host import spread

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATION_S = 0.005


def slowed(operation: Callable[..., Any], where: str) -> Callable[..., Any]:
    """Return an operation that takes its time for what is below a folder, or for a descriptor."""

    def run(path: Any, *values: Any, **named: Any) -> Any:
        if isinstance(path, int) or where in os.fspath(path):
            time.sleep(OPERATION_S)
        return operation(path, *values, **named)

    return run


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-by-one"]:
        del sys.argv[1]
        spread.SLOW_S = math.inf
    for name in ("stat", "open", "pread", "getxattr"):
        setattr(os, name, slowed(getattr(os, name), "/pool-slow/"))
    main()
