"""Events of volumes of pools that are mounted, and of those that are no folders."""

from __future__ import annotations

import os
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from scratch import make, run
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scratch import Program, Scratch

pytestmark = pytest.mark.root


class Stream:
    """What `pool-event --event all --loop` prints."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.heard = b""

    def next(self) -> str:
        while b"\n" not in self.heard:
            assert select.select([self.fd], [], [], 60)[0], "no event"
            data = os.read(self.fd, 65536)
            assert data, "it has ended"
            self.heard += data
        line, _, self.heard = self.heard.partition(b"\n")
        return line.decode().removeprefix("event ")


@contextmanager
def listening(ctl: Program) -> Iterator[Stream]:
    process = ctl.start("pool-event", "--event", "all", "--loop")
    try:
        folder = ctl.root / "run/storagectl/events"
        wait_for(lambda: list(folder.glob("*.volumes")), "it does not listen")
        assert process.stdout is not None
        stream = Stream(process.stdout.fileno())
        # what is told from now on is heard; its folders are watched once something was heard
        ctl.ok("pool-define-as", "sync", "dir", "--target", "/sync")
        assert stream.next() == "'lifecycle' for storage pool sync: Defined"
        yield stream
    finally:
        process.kill()
        process.communicate()


def test_a_file_system_that_is_mounted_and_unmounted(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    make("ext4", device)
    target = scratch.folder / "pool"
    target.mkdir()
    ctl.ok("pool-define-as", "p", "fs", "--source-dev", device, "--target", target)
    with listening(ctl) as stream:
        ctl.ok("pool-start", "p")
        assert stream.next() == "'lifecycle' for storage pool p: Started"
        (target / "by-hand").touch()
        assert stream.next() == "'volume' for storage pool p: Created by-hand"
        ctl.ok("vol-create-as", "p", "ours", "1M")
        assert stream.next() == "'volume' for storage pool p: Created ours"
        # what is watched does not keep it busy
        ctl.ok("pool-stop", "p")
        assert stream.next() == "'lifecycle' for storage pool p: Stopped"
        (target / "below").touch()
        (target / "below").unlink()
        ctl.ok("pool-start", "p")
        assert stream.next() == "'lifecycle' for storage pool p: Started"
        run("umount", target)
        time.sleep(0.1)
        (target / "below").touch()
        (target / "below").unlink()
        ctl.ok("pool-start", "p")
        assert stream.next() == "'lifecycle' for storage pool p: Started"
        (target / "ours").unlink()
        assert stream.next() == "'volume' for storage pool p: Deleted ours"


def test_partitions(ctl: Program, scratch: Scratch) -> None:
    device = scratch.loop()
    name = f"{device.removeprefix('/dev/')}p1"
    ctl.ok("pool-create-as", "p", "disk", "--source-dev", device, "--source-format", "gpt",
           "--target", "/dev", "--build")  # fmt: skip
    with listening(ctl) as stream:
        ctl.ok("vol-create-as", "p", name, "20M")
        assert stream.next() == f"'volume' for storage pool p: Created {name}"
        ctl.ok("vol-delete", name, "p")
        assert stream.next() == f"'volume' for storage pool p: Deleted {name}"
        ctl.refused("vol-delete", name, "p")
        ctl.ok("pool-refresh", "p")
        assert stream.next() == "'refresh' for storage pool p"
