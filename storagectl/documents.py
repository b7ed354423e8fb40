"""The files that `apply` reads, and the pools and volumes that they ask for.

All files are read before anything is done, and every error in them is told at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from storagectl import grammar
from storagectl.errors import ClientError, DocumentError, StorageError, SystemFailure, XmlError
from storagectl.grammar import at
from storagectl.poolxml import YES_NO, read_pool
from storagectl.record import Record, field
from storagectl.xmltree import Node, choice, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storagectl.model import Pool

XML, YAML = (".xml",), (".yaml", ".yml")
STDIN = "-"
ROOTS = ("pool", "volume", "storage")


class Place(NamedTuple):
    """Where in the files something is asked for."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


class File(NamedTuple):
    """A file to read; in the folder of a pool all volumes are that pool's."""

    path: str
    pool: str | None = None


class WantedVolume(Record):
    """A volume that is to be in a pool; its element can't be read without the pool's type."""

    place: Place
    pool: str
    name: str
    node: Node


class WantedPool(Record):
    """A pool as it is to be.  Without `has_uuid` it has one that was made up."""

    place: Place
    pool: Pool
    has_uuid: bool
    build: bool
    start: bool
    autostart: bool


class Wanted(Record):
    """What the files ask for, and what is wrong with them.

    `listed` are the names of the pools that the files name the volumes of, all or none.
    """

    pools: list[WantedPool] = field(default_factory=list)
    volumes: list[WantedVolume] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    errors: list[StorageError] = field(default_factory=list)


def gather(paths: Iterable[str]) -> Iterator[File]:
    """Yield the files that are meant: those given, and of a folder NAME.xml, NAME.yaml and NAME/*.

    Raises: ClientError for a folder without any, SystemFailure.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield File(path)
            continue
        files, folders = listing(path)
        found = [File(os.path.join(path, name)) for name in files]
        for pool in folders:
            folder = os.path.join(path, pool)
            found += [File(os.path.join(folder, name), pool) for name in listing(folder)[0]]
        if not found:
            raise ClientError(f"no file in '{path}' ends in {', '.join(XML + YAML)}")
        yield from found


def listing(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of the files in a folder that are read, and of its folders, sorted."""
    try:
        with os.scandir(folder) as entries:
            found = [
                (entry.name, entry.is_dir())
                for entry in entries
                if entry.is_dir() or entry.is_file() or entry.is_symlink()
            ]
    except OSError as error:
        raise SystemFailure(f"cannot open directory '{folder}': {error.strerror}") from error
    names = sorted((name, is_folder) for name, is_folder in found if not name.startswith("."))
    return (
        [name for name, is_folder in names if not is_folder and name.endswith(XML + YAML)],
        [name for name, is_folder in names if is_folder],
    )


def read(files: Iterable[File], load: Callable[[str], bytes]) -> Wanted:
    """Return what all files together ask for; `load` gives the content of one."""
    wanted = Wanted()
    for file in files:
        collector = Collector(file, wanted)
        data = load(file.path)
        try:
            if is_xml(file.path, data):
                collector.read_xml(data)
            else:
                collector.read_yaml(data)
        except StorageError as error:
            if error.action is None:
                error.action = f"Failed to read {shown(file.path)}"
            wanted.errors.append(error)
    wanted.errors += duplicates(wanted)
    return wanted


def shown(path: str) -> str:
    """Return what a file is called in messages."""
    return "stdin" if path == STDIN else path


def is_xml(path: str, data: bytes) -> bool:
    """Tell XML by the file's name, or where that tells nothing, by its first character."""
    if path.endswith(XML + YAML):
        return path.endswith(XML)
    return data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def duplicates(wanted: Wanted) -> Iterator[StorageError]:
    """Yield an error for each pool and each volume that is asked for twice."""
    pools: dict[str, Place] = {}
    for each in wanted.pools:
        first = pools.setdefault(each.pool.name, each.place)
        if first is not each.place:
            yield DocumentError(
                f"pool '{each.pool.name}' is in {first}, too", action=at(*each.place)
            )
    volumes: dict[tuple[str, str], Place] = {}
    for volume in wanted.volumes:
        first = volumes.setdefault((volume.pool, volume.name), volume.place)
        if first is not volume.place:
            yield DocumentError(
                f"volume '{volume.name}' of pool '{volume.pool}' is in {first}, too",
                action=at(*volume.place),
            )


class Collector:
    """Adds what one file asks for."""

    def __init__(self, file: File, wanted: Wanted) -> None:
        self.file = file
        self.path = shown(file.path)
        self.wanted = wanted
        if file.pool is not None:
            wanted.listed.add(file.pool)

    def read_xml(self, data: bytes) -> None:
        path = self.path
        root = parse(data, path)
        if root.tag not in ROOTS:
            raise DocumentError(
                f"the root is <{root.tag}>, not <pool>, <volume> or <storage>",
                action=at(path, root.line),
            )
        if root.tag != "storage":
            whole = Node("storage", {}, root.line)
            whole.content.append(root)
            root = whole
        grammar.check(root, grammar.STORAGE, path)
        self.add(root, self.file.pool)

    def read_yaml(self, data: bytes) -> None:
        from storagectl import yamltree

        reader = yamltree.Reader(self.path)
        for document in yamltree.load(data, self.path):
            try:
                pool, node = reader.document(document)
                if pool is not None and self.file.pool not in (None, pool):
                    raise self.elsewhere(node.line, pool)
            except StorageError as error:
                self.wanted.errors.append(error)
                continue
            self.add(node, pool or self.file.pool)
            if pool is not None and node.find("volumes") is not None:
                self.wanted.listed.add(pool)

    def add(self, root: Node, pool: str | None) -> None:
        """Add all pools and volumes below a root; one that is wrong does not hide the next."""
        for node in (*root.findall("pool"), *root.findall("pools/pool")):
            self.trying(node, self.add_pool)
        for node in (*root.findall("volume"), *root.findall("volumes/volume")):
            self.trying(node, lambda node: self.add_volume(node, pool))

    def trying(self, node: Node, add: Callable[[Node], None]) -> None:
        try:
            add(node)
        except StorageError as error:
            if error.action is None:
                error.action = at(self.path, node.line)
            self.wanted.errors.append(error)

    def add_pool(self, node: Node) -> None:
        if self.file.pool is not None:
            raise DocumentError(
                f"the folder '{self.file.pool}' is for the volumes of the pool of that name"
            )
        build, start, autostart = (
            choice(node, name, YES_NO) for name in ("build", "start", "autostart")
        )
        pool = read_pool(node)
        self.wanted.pools.append(
            WantedPool(
                Place(self.path, node.line),
                pool,
                has_uuid=node.text_of("uuid") is not None,
                build=build == "yes",
                start=start != "no",
                autostart=autostart != "no",
            )
        )
        if node.find("volumes") is not None:
            self.wanted.listed.add(pool.name)
            for volume in node.findall("volumes/volume"):
                self.trying(volume, lambda volume: self.add_volume(volume, pool.name))

    def add_volume(self, node: Node, around: str | None) -> None:
        pool = node.get("pool") or around
        if pool is None:
            raise DocumentError(
                "the volume does not say its pool",
                hint="with the attribute pool, inside of the pool, or in a folder of its name",
            )
        if around not in (None, pool):
            raise self.elsewhere(node.line, pool)
        name = node.text_of("name")
        if name is None:
            raise XmlError("missing volume name element")
        place = Place(self.path, node.line)
        self.wanted.volumes.append(WantedVolume(place, pool, name, node))

    def elsewhere(self, line: int, pool: str) -> DocumentError:
        return DocumentError(
            f"a volume of pool '{pool}' is in the place of another pool's",
            action=at(self.path, line),
        )
