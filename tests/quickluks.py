"""A qemu-img that derives the keys of LUKS in no time and keeps what it was given.

Where the clock was too coarse for it, it tries again by itself.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WRAPPER = """#!/bin/bash
cat /proc/$$/cmdline /proc/$$/environ >>"{log}"
words=('')
for word in "$@"; do
    case ${{words[-1]}}$word in
    -o*encrypt.key-secret=*) word+=,encrypt.iter-time=10 ;;
    -o*key-secret=*) word+=,iter-time=10 ;;
    esac
    words+=("$word")
done
while true; do
    {program} "${{words[@]:1}}" 2>"{log}.stderr"
    status=$?
    said=$(<"{log}.stderr")
    [[ $status = 0 || $said != *"Unable to get accurate CPU usage"* ]] && break
done
[[ $said ]] && echo "$said" >&2
exit $status
"""


def quick_qemu_img(folder: Path, log: Path) -> None:
    """Write it into a folder; each run adds its arguments and its environment to `log`."""
    wrapper = folder / "qemu-img"
    wrapper.write_text(WRAPPER.format(log=log, program=shutil.which("qemu-img")))
    wrapper.chmod(0o755)
