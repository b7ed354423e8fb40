"""What the kernel tells of block devices, below a temporary folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from storagectl.backends import devices

if TYPE_CHECKING:
    import pytest


class FakeKernel:
    """A /sys and /proc below a temporary folder."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sys, self.proc = root / "sys", root / "proc"
        self.mounts = self.swaps = ""
        (self.proc / "self").mkdir(parents=True)
        (self.sys / "block").mkdir(parents=True)
        (self.sys / "dev/block").mkdir(parents=True)
        (self.sys / "class/block").mkdir(parents=True)
        monkeypatch.setattr(devices, "SYS", str(self.sys))
        monkeypatch.setattr(devices, "PROC", str(self.proc))

    def add(self, path: str, number: str, **files: str) -> str:
        folder = self.sys / "devices" / path
        (folder / "holders").mkdir(parents=True)
        (folder / "slaves").mkdir()
        for name, text in {"dev": number, **files}.items():
            place = folder / name.replace("_", "/")
            place.parent.mkdir(exist_ok=True)
            place.write_text(text + "\n")
        (self.sys / "class/block" / folder.name).symlink_to(folder)
        (self.sys / "dev/block" / number).symlink_to(folder)
        return str(folder)

    def hold(self, folder: str, holder: str) -> None:
        (Path(folder) / "holders" / holder).mkdir()

    def mount(self, number: str, source: str, target: str) -> None:
        line = f"40 20 {number} / {target} rw - ext4 {source} rw\n"
        with (self.proc / "self/mountinfo").open("a") as stream:
            stream.write(line)
