"""S52: the power goes off in the midst of commands; after the boot all that was done is there.

    bash tests/lab/run --reboots 50 tests/lab/test_power.py

At each boot but the first what the last one has left is looked at: whole, old or new.  Then two
processes work, and write down outside of the guest what they begin and what they have done, until
the guest is reset without a sync.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path

import crashing
import devices
from inprocess import Answer, storagectl

BOOT = int(os.environ["LAB_BOOT"])
LAST = int(os.environ["LAB_REBOOTS"])
RESULTS = Path("/lab/results")
PLACE = Path("/var/lib/power")
ROOT = PLACE / "root"
SIZE = 1 << 20
DATA = b"new!" * (SIZE // 4)
TURNS = {
    "definitions": (
        ("pool-define", f"{PLACE}/one.xml"), ("pool-define", f"{PLACE}/two.xml"),
        ("pool-autostart", "q"), ("pool-undefine", "q"),
    ),
    "volumes": (
        ("vol-create-as", "p", "v", str(SIZE)), ("vol-upload", "v", f"{PLACE}/data", "p"),
        ("vol-rename", "v", "w", "p"), ("vol-delete", "w", "p"),
    ),
}  # fmt: skip


def ctl(*words: str) -> Answer:
    return storagectl(ROOT, *words)


def ok(*words: str) -> str:
    answer = ctl(*words)
    assert (answer.status, answer.stderr) == (0, ""), (words, answer)
    return answer.stdout


def prepare() -> None:
    (PLACE / "pool").mkdir(parents=True)
    (PLACE / "data").write_bytes(DATA)
    for name, mode in (("one", "0700"), ("two", "0711")):
        (PLACE / f"{name}.xml").write_text(
            "<pool type='dir'><name>q</name><uuid>11111111-1111-4111-8111-111111111111</uuid>"
            f"<target><path>/srv/q</path><permissions><mode>{mode}</mode></permissions></target>"
            "</pool>"
        )
    ok("pool-define-as", "p", "dir", "--target", f"{PLACE}/pool")
    os.sync()


def work(what: str) -> None:
    """Do the turns again and again, until one fails; never returns."""
    with (RESULTS / f"power-{what}").open("ab", buffering=0) as log:
        try:
            for turn in itertools.cycle(range(4)):
                log.write(f"begin {turn}\n".encode())
                ok(*TURNS[what][turn])
                log.write(f"done {turn}\n".encode())
        except BaseException as error:
            log.write(f"failed {error!r}\n".encode())
        finally:
            os._exit(1)


def possible(what: str) -> set[int]:
    """Return after which turns things may be: the last that is done, and one that was begun."""
    *_, last = (RESULTS / f"power-{what}").read_text().splitlines()
    word, _, number = last.partition(" ")
    assert word != "failed", last
    turn = int(number)
    return {turn} if word == "done" else {turn, (turn - 1) % 4}


def definitions() -> int:
    """Return after which turn the pool `q` is."""
    path = ROOT / "etc/storagectl/storage/q.xml"
    if not path.exists():
        return 3
    marked = "q" in ok("-q", "pool-list", "--all", "--autostart", "--name").split()
    return 2 if marked else 1 if "0711" in path.read_text() else 0


def volumes() -> int:
    """Return after which turn the volumes of `p` are."""
    names = [line.split()[0] for line in ok("-q", "vol-list", "p").splitlines()]
    if not names:
        return 3
    assert len(names) == 1, names
    content = (PLACE / "pool" / names[0]).read_bytes()
    assert content in (bytes(SIZE), DATA), "neither the old content nor the new"
    return 2 if names == ["w"] else int(content == DATA)


def test_s52_power_loss() -> None:
    if BOOT == 0:
        prepare()
    else:
        tally = crashing.Tally("power losses in the midst of commands")
        with tally.trying(f"boot {BOOT}"):
            crashing.documents([ROOT / "etc/storagectl/storage"])
            assert "p" in ok("-q", "pool-list", "--all", "--name").split()
            ok("pool-start", "p", "--if-inactive")  # below --root the mark outlives a boot
            assert definitions() in possible("definitions")
            assert volumes() in possible("volumes")
        tally.check()
    ctl("pool-start", "p")
    ctl("pool-undefine", "q")
    for name in ("v", "w"):
        ctl("vol-delete", name, "p")
    ok("pool-refresh", "p")
    assert not crashing.unfinished(PLACE)
    if BOOT == LAST:
        return
    for what in TURNS:
        (RESULTS / f"power-{what}").write_text("done 3\n")
        if os.fork() == 0:
            work(what)
    for what in TURNS:
        log = RESULTS / f"power-{what}"
        devices.wait_for(f"{what} go on", lambda log=log: "begin 2" in log.read_text(), 300)
    time.sleep(4 * random.random())
    with (RESULTS / f"status-{BOOT}").open("w") as status:
        status.write("0\n")
    Path("/proc/sysrq-trigger").write_text("b")
    time.sleep(60)
