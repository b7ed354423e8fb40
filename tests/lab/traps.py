"""Traps: ways to lose a device that is not meant; each refusal leaves everything as before."""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import devices
import tally
from devices import run
from shell import Shell, digest

if TYPE_CHECKING:
    from collections.abc import Iterator

# a command and the state of the device that it must not touch
TRAPS = "traps in the lab"
KINDS = ("fs", "disk", "logical")


class Trap(Shell):
    """Shell whose refusals change nothing: definitions, devices, groups, mounts, sessions."""

    def refused(
        self,
        *words: str,
        lost: tuple[str, ...],
        saying: str = "",
        before: dict[str, object] | None = None,
    ) -> None:
        """Run a command that is refused.

        `before` is the picture of one of several; the volume groups are looked at after all.
        """
        there = None if before else groups()
        before = before or picture(lost)
        definitions = self.definitions()
        with tally.counted(TRAPS):
            said = self.fails(*words)
            assert saying in said, (words, said)
            assert picture(lost) == before, words
            assert self.definitions() == definitions
            assert there is None or there == groups(), words

    def definitions(self) -> dict[str, str]:
        paths = glob.glob(f"{self.root}/etc/**/*.*", recursive=True)
        return {path: digest(path) for path in paths}

    def define(self, kind: str, device: str, name: str = "p") -> None:
        if kind == "fs":
            self.ok("pool-define-as", name, "fs", "--source-dev", device, "--source-format", "ext4",
                    "--target", f"{self.root}/mnt")  # fmt: skip
        elif kind == "disk":
            self.ok("pool-define-as", name, "disk", "--source-dev", device, "--source-format",
                    "gpt", "--target", "/dev")  # fmt: skip
        else:
            self.ok("pool-define-as", name, "logical", "--source-dev", device, "--source-name",
                    f"vg-{name}")  # fmt: skip

    def never_built(
        self, device: str, lost: tuple[str, ...], saying: str, kinds: tuple[str, ...] = KINDS
    ) -> None:
        """Pools of these types are not built on a device, even where that is forced.

        Each has definitions of its own: two of one source are refused.
        """
        there, before = groups(), picture(lost)
        for kind in kinds:
            own = Trap(os.path.join(self.root, f"{kind}{device.replace('/', '-')}"))
            if not os.path.exists(own.root):
                own.define(kind, device)
            commands = [("pool-build", "p", "--overwrite"), ("pool-delete", "p")]
            for words in commands if kind == "disk" else commands[:1]:
                own.refused(*words, lost=lost, saying=saying, before=before)
        assert groups() == there

    def volume_kept(
        self, volume: str, lost: tuple[str, ...], *, wiped: str, deleted: str = ""
    ) -> None:
        """A volume of pool p is neither wiped nor written to, nor deleted where it could be."""
        there, before = groups(), picture(lost)
        content = os.path.join(self.root, "content")
        write(content, "x" * 512)
        for words in (("vol-wipe", volume, "p"), ("vol-upload", volume, content, "p")):
            self.refused(*words, lost=lost, saying=wiped, before=before)
        if deleted:
            self.refused("vol-delete", volume, "p", lost=lost, saying=deleted, before=before)
        assert groups() == there


def picture(lost: tuple[str, ...]) -> dict[str, object]:
    """Return all that a refused command must not have changed, without starting a process."""
    return {
        **devices.snapshot(),
        "block devices": {
            path: [devices.read(f"{path}/{name}") for name in ("dev", "size", "dm/name")]
            + sorted(os.listdir(f"{path}/holders"))
            for path in glob.glob("/sys/class/block/*")
        },
        "content": {device: digest(device) for device in lost},
    }


def groups() -> str:
    devices.settle()
    return run("vgs", "--foreign", "-o", "vg_uuid,vg_seqno,pv_name")


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


@contextmanager
def mapped(device: str) -> Iterator[str]:
    """A device-mapper map on the device, not on all of it."""
    name = f"lab{os.getpid()}"
    run("dmsetup", "create", name, "--table", f"0 32768 linear {device} 2048")
    devices.settle()
    try:
        yield f"/dev/mapper/{name}"
    finally:
        devices.settle()
        run("dmsetup", "remove", "--retry", name)
