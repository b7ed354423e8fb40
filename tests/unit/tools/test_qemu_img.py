"""Every argument list of qemu-img names all formats, so that no content is taken for a format."""

from __future__ import annotations

import inspect
import itertools
import re
from typing import TYPE_CHECKING

import pytest

from storagectl.model import BackingStore, Encryption, Volume
from storagectl.tools import qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMATS = (None, "none", "raw", "iso", "qcow2", "vmdk", "ploop")


def volumes() -> Iterator[Volume]:
    for format, backing in itertools.product(FORMATS, (None, *FORMATS)):
        store = (
            None if backing is None else BackingStore("/b", None if backing == "none" else backing)
        )
        for keeps in (False, True):
            yield Volume("v", path="/v", format=format, capacity=1, backing=store,
                         cluster_size=4096, keeps_backing=keeps)  # fmt: skip


def create() -> Iterator[list[str]]:
    for volume, metadata in itertools.product(volumes(), (False, True)):
        yield qemu_img.create(volume, "/p", metadata=metadata)


def convert() -> Iterator[list[str]]:
    for source, volume in itertools.product(volumes(), repeat=2):
        yield qemu_img.convert(source, volume, "/p", metadata=False, progress=True)


def compare() -> Iterator[list[str]]:
    for source, volume in itertools.product(encrypted(), repeat=2):
        yield qemu_img.compare(source, volume, source_key="/k", key=None)


def fill() -> Iterator[list[str]]:
    for source, volume in itertools.product(encrypted(), repeat=2):
        yield qemu_img.fill(source, volume, source_key="/k", key="/k", progress=False)


def resize() -> Iterator[list[str]]:
    for volume, shrink in itertools.product(encrypted(), (False, True)):
        yield qemu_img.resize(volume, 1, shrink=shrink)


def encrypted() -> Iterator[Volume]:
    """Yield volumes that are, and are not, encrypted."""
    for volume in volumes():
        yield volume
        yield volume.replace(encryption=Encryption("luks"))


BUILDERS = {
    "create": create,
    "convert": convert,
    "compare": compare,
    "fill": fill,
    "resize": resize,
}
NEEDS = {"create": {"-f"}, "convert": {"-f", "-O"}, "compare": {"-f", "-F"}, "resize": {"-f"}}
IMAGES = {"convert": 2, "compare": 2, "resize": 1}
NO_CALLS = {"options", "encryption_options", "secret"}


def unnamed(argv: list[str]) -> list[str]:
    """Return what an argument list does not name the format of."""
    tool, verb, *words = argv
    assert tool == "qemu-img"
    if "--image-opts" in words:
        images = [word for word in words if "filename=" in word]
        assert len(images) == IMAGES[verb]
        return [image for image in images if not re.match(r"driver=\w+,", image)]
    given = {word: following for word, following in itertools.pairwise(words)}
    left = [word for word in NEEDS[verb] if given.get(word, "-").startswith("-")]
    if {"-b", "-B"} & given.keys():
        options = given.get("-o", "").split(",")
        if not any(word.startswith("backing_fmt=") and word[12:] for word in options):
            left.append("backing_fmt")
    return left


def test_every_function_is_audited() -> None:
    functions = {
        name
        for name, function in inspect.getmembers(qemu_img, inspect.isfunction)
        if "list[str]" in str(function.__annotations__["return"])
    }
    assert functions == {*BUILDERS, *NO_CALLS}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_all_formats_are_named(build: Callable[[], Iterator[list[str]]]) -> None:
    for argv in build():
        assert unnamed(argv) == [], argv


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("create p 1K", ["-f"]),
        ("create -f qcow2 -b /b p 1K", ["backing_fmt"]),
        ("create -f qcow2 -b /b -o compat=1.1 p 1K", ["backing_fmt"]),
        ("convert -f raw a b", ["-O"]),
        ("resize --shrink p 1", ["-f"]),
        ("resize --image-opts file.filename=p 1", ["file.filename=p"]),
        ("resize --image-opts driver=,file.filename=p 1", ["driver=,file.filename=p"]),
    ],
)
def test_the_audit_sees_what_is_not_named(line: str, left: list[str]) -> None:
    assert unnamed(["qemu-img", *line.split()]) == left


def test_a_copy_keeps_its_backing_store_only_when_told() -> None:
    source = Volume("s", path="/s", format="qcow2", backing=BackingStore("/b", "raw"))
    copy = Volume("v", format="qcow2", capacity=1)
    how = {"metadata": False, "progress": False}
    assert "-B" not in qemu_img.convert(source, copy, "/p", **how)
    assert qemu_img.convert(source, copy.replace(keeps_backing=True), "/p", **how) == [
        "qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-B", "/b",
        "-o", "backing_fmt=raw,compat=0.10", "/s", "/p",
    ]  # fmt: skip
