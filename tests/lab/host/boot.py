"""One guest: started, followed, ended.  Knows qemu; knows nothing of tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from image import CHECKOUT, say

READY = b"LAB-READY"
DAY_S = 24 * 3600
KVM_TRY_S = 20
POLL_S = 0.1
NVME_SIZE = 64 << 20
# no test needs them, and each takes seconds of the boot
UNUSED_UNITS = ("o2cb.service", "ocfs2.service", "rtslib-fb-targetctl.service")


class GuestFailed(Exception):
    """The guest ended without an answer, or did not end.  `status` is for the shell."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Guest:
    """How a guest is to be: `disks` (vda...) are written to, `results` is a folder to share."""

    image: str
    disks: list[str]
    results: str
    accel: str
    systemd: bool = False
    words: str = ""

    def argv(self, console: list[str]) -> list[str]:
        words = "console=ttyS0 root=/dev/vda rw panic=-1 quiet mitigations=off " + self.words
        if self.systemd:
            # a busy machine is no failure
            words += " systemd.wants=lab-job.service systemd.default_timeout_start_sec=600"
            words += "".join(f" systemd.mask={unit}" for unit in UNUSED_UNITS)
        else:
            words += " init=/lab/init"
        kvm = self.accel == "kvm"
        share = "local,security_model=none,multidevs=remap"
        # fmt: off
        return [
            # the guest does not outlive this process, however it ends
            "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
            "-accel", self.accel,
            "-cpu", "host" if kvm else "max",
            # emulated, one processor alone is twice as fast as one of two
            "-smp", str(min(2, os.cpu_count() or 1) if kvm else 1), "-m", "3072",
            "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none", "-display", "none",
            "-kernel", f"{self.image}/kernel", "-initrd", f"{self.image}/initrd",
            "-append", words,
            *(word for disk in self.disks for word in ("-drive", drive(disk))),
            "-drive", f"file={self.disks[0]}.nvme,format=raw,if=none,id=nvme,cache=unsafe",
            "-device", "nvme,serial=lab,drive=nvme",
            "-virtfs", f"{share},path={CHECKOUT},mount_tag=checkout,readonly=on",
            "-virtfs", f"{share},path={self.results},mount_tag=results",
            "-device", "virtio-rng-pci",
            *console,
        ]
        # fmt: on

    def follow(self, limit_s: float, ready_s: float | None = None) -> None:
        """Run the guest to its end, and copy the results' `output` to stdout as it grows.

        Raises: GuestFailed when it takes too long, or is not ready in `ready_s`.
        """
        console = os.path.join(self.results, "console")
        output = os.path.join(self.results, "output")
        start = time.monotonic()
        with (
            open(os.path.join(self.results, "qemu"), "ab") as messages,
            open(output, "ab+") as written,
            subprocess.Popen(
                self.argv(["-serial", f"file:{console}"]),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            ) as process,
        ):
            written.seek(0, os.SEEK_END)
            try:
                ready = False
                running = True
                while running:
                    running = process.poll() is None
                    while chunk := written.read(65536):
                        sys.stdout.buffer.write(chunk)
                        sys.stdout.buffer.flush()
                    spent_s = time.monotonic() - start
                    if not ready:
                        ready = is_ready(console)
                        if ready:
                            say(f"the guest is up after {spent_s:.0f} s ({self.accel})")
                    if spent_s > limit_s:
                        raise GuestFailed(f"the guest was ended after {limit_s:.0f} s", 124)
                    if ready_s and not ready and (spent_s > ready_s or not running):
                        raise GuestFailed(f"the guest was not up after {spent_s:.0f} s", 125)
                    time.sleep(POLL_S)
            finally:
                process.kill()

    def shell(self) -> None:
        """Give the guest the terminal, until it ends."""
        console = ["-chardev", "stdio,id=terminal,mux=on,signal=off", "-serial", "chardev:terminal",
                   "-mon", "chardev=terminal"]  # fmt: skip
        subprocess.run(self.argv(console), check=False)


def drive(disk: str) -> str:
    return f"file={disk},if=virtio,cache=unsafe"


def is_ready(console: str) -> bool:
    with contextlib.suppress(FileNotFoundError), open(console, "rb") as file:
        return READY in file.read()
    return False


def console_tail(results: str, lines: int = 40) -> str:
    try:
        with open(os.path.join(results, "console"), errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except FileNotFoundError:
        return ""


def make_disk(image: str, path: str) -> None:
    """Make the disks of one guest: one holds what differs from the image, an NVMe one nothing."""
    with open(f"{path}.nvme", "wb") as file:
        file.truncate(NVME_SIZE)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", f"{image}/root.img", path],
        check=True,
    )  # fmt: skip


def make_empty_disk(path: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)


def choose_accel(image: str, scratch: str) -> str:
    """Tell whether KVM really runs this guest.

    It may be there and hang the guest's kernel, or abort qemu ("failed to set MSR 0x10a").
    So the guest is booted once; the answer is kept for a day.
    """
    if wanted := os.environ.get("STORAGECTL_LAB_ACCEL"):
        return wanted
    kept = os.path.join(image, "accel")
    with contextlib.suppress(FileNotFoundError):
        if time.time() - os.stat(kept).st_mtime < DAY_S:
            with open(kept) as file:
                return file.read()
    answer = (
        "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_works(image, scratch) else "tcg"
    )
    say(f"KVM works here: {'yes' if answer == 'kvm' else 'no'}")
    remember_accel(image, answer)
    return answer


def remember_accel(image: str, answer: str) -> None:
    temporary = os.path.join(image, f"accel.{os.getpid()}")
    with open(temporary, "w") as file:
        file.write(answer)
    os.replace(temporary, os.path.join(image, "accel"))


def _kvm_works(image: str, scratch: str) -> bool:
    results = os.path.join(scratch, "try")
    disk = os.path.join(scratch, "try.qcow2")
    os.mkdir(results)
    make_disk(image, disk)
    guest = Guest(image, [disk], results, "kvm", words="lab.try")
    try:
        guest.follow(KVM_TRY_S, ready_s=KVM_TRY_S)
    except GuestFailed:
        return False
    finally:
        os.remove(disk)
        os.remove(f"{disk}.nvme")
        shutil.rmtree(results)
    return True
