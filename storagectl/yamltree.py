"""YAML of pools and volumes to the tree that their XML would give.

Keys are the names of elements and of attributes; what is one and what the other,
`grammar` says.  Only the text of the file is used: nothing in it makes an object, and
0711 and 1.10 stay what they look like.
"""

from __future__ import annotations

from typing import Any, NoReturn

from storagectl.errors import DocumentError, StorageError
from storagectl.grammar import STORAGE, SWITCHES, Element, at, tag_of
from storagectl.xmltree import MAX_NODES, Node

MAX_DEPTH = 32
TOO_MUCH = f"the file has more than {MAX_NODES} elements, or nests too deeply"
PREFIX = "tag:yaml.org,2002:"
PLAIN = ("bool", "float", "int", "null", "str", "timestamp")
TRUE = ("true", "yes", "on")
SCALAR, LIST, MAPPING = "scalar", "sequence", "mapping"
KINDS = {SCALAR: "a value", LIST: "a list", MAPPING: "a mapping"}


def load(data: bytes, path: str) -> list[Any]:
    """Return the nodes of PyYAML's for the documents of a file, without those that are empty.

    Raises: StorageError without PyYAML, DocumentError with the line where it is no YAML.
    """
    try:
        import yaml
    except ImportError as error:
        raise StorageError(
            "the package 'python3-yaml' (PyYAML) is not installed: pip install 'storagectl[yaml]'",
            action=f"Failed to read {path}",
        ) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Gives up before a long file takes more memory than there is."""

        count = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.count += 1
            if self.count > MAX_NODES:
                line = self.peek_event().start_mark.line + 1
                raise DocumentError(TOO_MUCH, action=at(path, line))
            return super().compose_node(parent, index)

    try:
        loader = Loader(data.decode("utf-8"))
        found = []
        while loader.check_node():
            node = loader.get_node()
            if node.tag != f"{PREFIX}null":
                found.append(node)
        return found
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError("it is not UTF-8 text", action=at(path, line)) from error
    except RecursionError as error:
        raise DocumentError("it is nested too deeply", action=f"Failed to read {path}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or getattr(error, "reason", None) or "is no YAML"
        where = at(path, mark.line + 1) if mark else f"Failed to read {path}"
        raise DocumentError(words, action=where) from error


class Reader:
    """Turns the nodes of one file into elements."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0

    def document(self, node: Any) -> tuple[str | None, Node]:
        """Return the pool that `pool: NAME` says the volumes are of, and a <storage> element."""
        self.expect(node, MAPPING, "a document")
        root = Node("storage", {}, line_of(node))
        name = None
        for key, (place, value) in self.pairs(node).items():
            if key == "pool" and value.id == SCALAR:
                name = self.scalar(value, key)
            elif key in STORAGE.children:
                root.content += self.elements(key, STORAGE.children[key], value)
            else:
                self.wrong(place, f"'{key}' is none of {', '.join(STORAGE.children)}")
        if name is not None and (root.find("pools") or not root.content):
            self.wrong(node, f"'pool: {name}' needs volumes, and no pools")
        return name, root

    def wrong(self, node: Any, words: str) -> NoReturn:
        raise DocumentError(words, action=at(self.path, line_of(node)))

    def pairs(self, node: Any, depth: int = 0) -> dict[str, tuple[Any, Any]]:
        """Return the nodes of key and value for each key of a mapping.

        What `<<: *other` names is there too, where the mapping itself has not the key.
        """
        found: dict[str, tuple[Any, Any]] = {}
        others: list[Any] = []
        for key, value in node.value:
            if key.tag == f"{PREFIX}merge":
                others += value.value if value.id == LIST else [value]
                continue
            text = self.scalar(key, "a key")
            if text in found:
                self.wrong(key, f"the key '{text}' is there twice")
            found[text] = key, value
        for other in others:
            self.expect(other, MAPPING, "<<")
            for text, nodes in self.pairs(self.counted(other, depth), depth + 1).items():
                found.setdefault(text, nodes)
        return found

    def expect(self, node: Any, kind: str, name: str) -> None:
        if node.id != kind:
            self.wrong(node, f"'{name}' is {KINDS[kind]}, not {KINDS[node.id]}")

    def scalar(self, node: Any, name: str) -> str:
        """Return the text of a value as it stands in the file."""
        self.expect(node, SCALAR, name)
        if node.tag not in {PREFIX + tag for tag in PLAIN}:
            self.wrong(node, f"'{name}' has the tag '{node.tag}', which means nothing here")
        text: str = node.value
        return text

    def attribute(self, node: Any, name: str) -> str:
        text = self.scalar(node, name)
        if name in SWITCHES and node.tag == f"{PREFIX}bool":
            return "yes" if text.lower() in TRUE else "no"
        return text

    def elements(self, name: str, element: Element, node: Any, depth: int = 0) -> list[Node]:
        """Return the elements that the value of a key stands for: several for a list."""
        if node.id == LIST and not element.items:
            return [
                found
                for each in node.value
                for found in self.elements(name, element, self.counted(each, depth), depth + 1)
            ]
        if self.is_absent(node, element):
            return []
        return [self.element(name, element, self.counted(node, depth), depth)]

    def is_absent(self, node: Any, element: Element) -> bool:
        """Tell whether an element that has no content is there by `false` not."""
        bare = not (element.attributes or element.children or element.text)
        return bool(bare and node.tag == f"{PREFIX}bool" and node.value.lower() not in TRUE)

    def counted(self, node: Any, depth: int) -> Any:
        """Raise DocumentError for more than XML may have; aliases make much of little."""
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            self.wrong(node, TOO_MUCH)
        return node

    def element(self, name: str, element: Element, node: Any, depth: int) -> Node:
        made = Node(tag_of(name), {}, line_of(node))
        if node.id == MAPPING:
            self.fill(made, name, element, node, depth)
        elif node.id == LIST:
            child = element.children[element.items]
            for each in node.value:
                made.content += self.elements(element.items, child, each, depth + 1)
        elif node.tag != f"{PREFIX}null":
            self.fill_bare(made, name, element, node)
        return made

    def fill(self, made: Node, name: str, element: Element, node: Any, depth: int) -> None:
        """Read a mapping: each key is an attribute, an element, or `value` for the text."""
        for key, (place, value) in self.pairs(node).items():
            if key in element.attributes:
                made.attributes[key] = self.attribute(value, key)
            elif key in element.children:
                made.content += self.elements(key, element.children[key], value, depth + 1)
            elif key == "value" and element.text:
                made.content.append(self.scalar(value, key))
            else:
                self.wrong(place, f"'{name}' has no key '{key}'")

    def fill_bare(self, made: Node, name: str, element: Element, node: Any) -> None:
        """Read a bare value, `20 GiB` with its unit."""
        if element.main:
            made.attributes[element.main] = self.attribute(node, element.main)
        elif element.text:
            text = self.scalar(node, name)
            if "unit" in element.attributes:
                digits = len(text) - len(text.lstrip("0123456789"))
                text, unit = text[:digits] or text, text[digits:].strip() if digits else ""
                if unit:
                    made.attributes["unit"] = unit
            made.content.append(text)
        elif element.children or element.attributes:
            self.wrong(node, f"'{name}' is {KINDS[MAPPING]}, not {KINDS[SCALAR]}")
        elif node.tag != f"{PREFIX}bool":
            self.wrong(node, f"'{name}' is true or false")


def line_of(node: Any) -> int:
    """Return the line that a node of PyYAML's begins in."""
    line: int = node.start_mark.line + 1
    return line
