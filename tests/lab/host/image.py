"""The guest's image: where it is kept, and when a new one is made.

An image is a folder named by the hash of all that goes into it.  It appears under that
name when it is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LAB = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKOUT = os.path.dirname(os.path.dirname(LAB))
RECIPE = [
    "guest/customize",
    "guest/image-init",
    "guest/image-initrd",
    "guest/image-mount",
    "guest/lab-job.service",
    "guest/packages",
    "host/build.sh",
]
GUEST_PYTHON = "3.11"
# all that a wheel for the guest may say it needs; Debian 12 has glibc 2.36
GUEST_PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"]


def say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


def cache() -> str:
    home = os.environ.get("XDG_CACHE_HOME")
    if not home:
        home = "/var/cache" if os.geteuid() == 0 else os.path.expanduser("~/.cache")
    path = os.path.join(home, "storagectl-lab")
    os.makedirs(path, exist_ok=True)
    return path


def project() -> dict:
    with open(os.path.join(CHECKOUT, "pyproject.toml"), "rb") as file:
        return tomllib.load(file)


def requirements() -> list[str]:
    """Tell what the guest's Python gets: what the package and its tests need."""
    table = project()["project"]
    tests = [
        need
        for need in table["optional-dependencies"]["test"]
        if need.startswith(("pytest", "hypothesis"))
    ]
    return sorted([*table["dependencies"], *tests, "installer>=1.0.0"])


def recipe_hash() -> str:
    digest = hashlib.sha256()
    for name in RECIPE:
        with open(os.path.join(LAB, name), "rb") as file:
            digest.update(file.read())
    digest.update("\n".join(requirements()).encode())
    return digest.hexdigest()[:16]


def tools() -> str:
    """Give a Python with pip and what builds the wheel; made once, by image()."""
    needs = project()["build-system"]["requires"]
    key = hashlib.sha256("\n".join([sys.version, *needs]).encode()).hexdigest()[:16]
    path = os.path.join(cache(), f"tools-{key}")
    python = os.path.join(path, "bin", "python")
    if not os.path.exists(os.path.join(path, "complete")):
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", path], check=True, stdout=2)
        subprocess.run([python, "-m", "pip", "install", "-qq", *needs], check=True, stdout=2)
        with open(os.path.join(path, "complete"), "w"):
            pass
    return python


def build_wheel(to: str) -> None:
    subprocess.run(
        [tools(), "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation",
         "--wheel-dir", to, CHECKOUT],
        check=True, stdout=2,
    )  # fmt: skip


def pack_checkout(to: str) -> None:
    """Make a tar file of the checkout, without what tools keep in it."""
    excluded = os.path.join(LAB, "host", "excluded")
    subprocess.run(
        ["tar", "-C", CHECKOUT, f"--exclude-from={excluded}", "-cf", to, "."], check=True
    )


def _build(path: str) -> None:
    temporary = path + ".new"
    shutil.rmtree(temporary, ignore_errors=True)
    wheels = os.path.join(temporary, "wheels")
    os.makedirs(wheels)
    platforms = [word for name in GUEST_PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [tools(), "-m", "pip", "download", "-qq", "--only-binary", ":all:",
         "--python-version", GUEST_PYTHON, "--implementation", "cp", *platforms,
         "--dest", wheels, *requirements()],
        check=True, stdout=2,
    )  # fmt: skip
    script = os.path.join(LAB, "host", "build.sh")
    subprocess.run(["bash", script, temporary, wheels], check=True, stdout=2)
    shutil.rmtree(wheels)
    os.rename(temporary, path)


def _remove_unused(prefix: str) -> None:
    """Remove the folders of that prefix that no running lab has locked."""
    for name in os.listdir(cache()):
        if name.startswith(prefix):
            with contextlib.suppress(OSError), locked(os.path.join(cache(), name), fcntl.LOCK_EX):
                shutil.rmtree(os.path.join(cache(), name))


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(os.path.join(cache(), "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked(folder: str, kind: int) -> Iterator[None]:
    """Lock a folder.  Raises: BlockingIOError when another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def image() -> Iterator[str]:
    """Give the folder of the image, made now if need be; it stays as long as this does."""
    path = os.path.join(cache(), f"image-{recipe_hash()}")
    with contextlib.ExitStack() as stack:
        with _one_at_a_time():
            tools()
            if not os.path.exists(path):
                say("building the image, about 3 minutes")
                _build(path)
            stack.enter_context(locked(path, fcntl.LOCK_SH))
            _remove_unused("image-")
        yield path


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Give a folder for this run; one that a killed run left behind goes too."""
    with contextlib.ExitStack() as stack:
        with _one_at_a_time():
            _remove_unused("run-")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=cache()))
            stack.enter_context(locked(folder, fcntl.LOCK_SH))
        yield folder
