"""tests/lab/run: run tests in a Debian 12 guest that has all the devices.

Whatever is not listed below goes to pytest in the guest.  Without a path that is tests/lab.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import image as images
from boot import (
    Guest,
    GuestFailed,
    choose_accel,
    console_tail,
    make_disk,
    make_empty_disk,
    remember_accel,
)
from image import CHECKOUT, say

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_RESULTS = 5
EMPTY_DISKS = 3
KVM_READY_S = 60
TCG_READY_S = 600
# what of the environment holds in the guest too
PASSED_ON = ("CI", "STORAGECTL_CI", "STORAGECTL_CRASHES", "PYTEST_ADDOPTS", "TERM")


def options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="tests/lab/run",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="environment: STORAGECTL_LAB_ACCEL (kvm or tcg), STORAGECTL_LAB_TIME_LIMIT,\n"
        "  XDG_CACHE_HOME (the image and the results are kept in storagectl-lab below it)",
    )
    parser.add_argument("--build", action="store_true", help="only build the image")
    parser.add_argument("--shell", action="store_true", help="a shell in the guest, no tests")
    parser.add_argument("--systemd", action="store_true", help="boot with systemd as init")
    parser.add_argument(
        "--reboots", type=int, default=0, metavar="N",
        help="run the tests, power-cycle the guest, run them again, N times; LAB_BOOT is 0 to N;"
        " the guest has three disks more, which are empty at first",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=float, metavar="S",
        default=float(os.environ.get("STORAGECTL_LAB_TIME_LIMIT", "1800")),
        help="end the guest after so many seconds (%(default).0f)",
    )  # fmt: skip
    parser.add_argument("--results", metavar="DIR", help="where to keep junit and log files")
    parser.add_argument("--wheel", metavar="FILE", help="install this, not a wheel made now")
    return parser.parse_known_args()


def pytest_arguments(given: list[str]) -> list[str]:
    """Turn paths into paths below the checkout, and add tests/lab where there is none."""
    arguments = []
    found = False
    for argument in given:
        path, colons, test = argument.partition("::")
        inside = os.path.relpath(os.path.realpath(path), CHECKOUT)
        if path and not path.startswith("-") and os.path.exists(path) and inside[:2] != "..":
            argument = inside + colons + test
            found = True
        arguments.append(argument)
    if sys.stdout.isatty():
        arguments.insert(0, "--color=yes")
    return arguments if found else [*arguments, "tests/lab"]


@contextlib.contextmanager
def results_folder(wanted: str | None) -> Iterator[str]:
    """Give the folder, locked; some old ones are kept, and those that a guest writes to."""
    if wanted:
        path = os.path.abspath(wanted)
        shutil.rmtree(path, ignore_errors=True)
    else:
        kept = os.path.join(images.cache(), "results")
        os.makedirs(kept, exist_ok=True)
        for name in sorted(os.listdir(kept))[: 1 - KEPT_RESULTS]:
            old = os.path.join(kept, name)
            with contextlib.suppress(OSError), images.locked(old, fcntl.LOCK_EX):
                shutil.rmtree(old, ignore_errors=True)
        path = os.path.join(kept, f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    os.makedirs(path)
    with images.locked(path, fcntl.LOCK_SH):
        yield path


def write_job(
    results: str, mode: str, arguments: list[str], boot: int = 0, reboots: int = 0
) -> None:  # fmt: skip
    size = shutil.get_terminal_size()
    lines = [
        f"mode={mode} boot={boot} rows={size.lines} columns={size.columns}",
        f"arguments=({shlex.join(arguments)})",
        f"export COLUMNS={size.columns} LAB_REBOOTS={reboots}",
        *(f"export {n}={shlex.quote(os.environ[n])}" for n in PASSED_ON if n in os.environ),
    ]
    with open(os.path.join(results, "job"), "w") as file:
        file.write("\n".join(lines) + "\n")


def read_status(results: str, boot: int) -> int:
    try:
        with open(os.path.join(results, f"status-{boot}")) as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        raise GuestFailed("the guest ended without a result", 125) from None


def run_tests(guest: Guest, reboots: int, time_limit_s: float, arguments: list[str]) -> int:
    """Run the tests at each boot.  Returns: the first exit status that is not 0, or 0."""
    deadline = time.monotonic() + time_limit_s
    for boot in range(reboots + 1):
        write_job(guest.results, "tests", arguments, boot, reboots)
        left_s = deadline - time.monotonic()
        try:
            guest.follow(left_s, KVM_READY_S if guest.accel == "kvm" else TCG_READY_S)
        except GuestFailed as failed:
            if guest.accel != "kvm" or failed.status != 125 or boot:
                raise
            say(f"{failed}; KVM does not work here after all")
            guest.accel = "tcg"
            remember_accel(guest.image, "tcg")
            guest.follow(deadline - time.monotonic(), TCG_READY_S)
        status = read_status(guest.results, boot)
        console = os.path.join(guest.results, "console")
        os.replace(console, os.path.join(guest.results, f"log-{boot}", "console"))
        if status:
            return status
    return 0


def run(guest: Guest, chosen: argparse.Namespace, arguments: list[str], scratch: str) -> int:
    """Run the tests, or a shell, in the guest, whose disks are made here."""
    wheel = os.path.join(guest.results, "wheel")
    os.mkdir(wheel)
    if chosen.wheel:
        shutil.copy(chosen.wheel, wheel)
    else:
        images.build_wheel(wheel)
    images.pack_checkout(os.path.join(guest.results, "checkout.tar"))
    disk = os.path.join(scratch, "disk.qcow2")
    make_disk(guest.image, disk)
    guest.disks.append(disk)
    if chosen.reboots:
        guest.disks += [os.path.join(scratch, f"disk{n}.qcow2") for n in range(EMPTY_DISKS)]
    for path in guest.disks[1:]:
        make_empty_disk(path)
    if chosen.shell:
        write_job(guest.results, "shell", [])
        guest.shell()
        return 0
    start = time.monotonic()
    try:
        return run_tests(guest, chosen.reboots, chosen.time_limit, arguments)
    except GuestFailed as failed:
        say("the end of the guest's console:")
        sys.stderr.write(console_tail(guest.results))
        say(str(failed))
        return failed.status
    finally:
        say(f"{time.monotonic() - start:.0f} s; results and logs: {guest.results}")


def main() -> int:
    chosen, rest = options()
    arguments = pytest_arguments([word for word in rest if word != "--"])
    if chosen.shell and not (sys.stdin.isatty() and sys.stdout.isatty()):
        say("--shell needs a terminal")
        return 2
    with images.image() as image, images.scratch() as scratch:
        accel = choose_accel(image, scratch)
        if chosen.build:
            return 0
        with results_folder(chosen.results) as results:
            guest = Guest(image, [], results, accel, systemd=chosen.systemd)
            return run(guest, chosen, arguments, scratch)


def interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        say(f"failed with status {error.returncode}: {shlex.join(error.cmd)}")
        sys.exit(125)
