"""From YAML text to plain values, and the line of each; knows nothing of what a grid means.

Stricter than YAML 1.1: no tags, no duplicate keys, no merge keys, no aliases that blow up, and
numbers are what a person takes for numbers (`1e-3` is one, `1:30` and `010` are not).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

MAX_NODES = 200_000
MAX_DEPTH = 32

_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS = {"", "~", "null", "Null", "NULL"}


@dataclass
class Marked:
    """Plain values, the 1-based line of every path in them, and what was wrong on the way."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    errors: list[tuple[int, str]] = field(default_factory=list)


def parse(text: str) -> Marked:
    """Read one YAML document. Errors are (line, text), all that can be told at once."""
    marked = Marked()
    try:
        marked.errors.extend(_tags(text))
        if marked.errors:
            return marked
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            marked.value = _Reader(marked).read(node, (), 0)
    except yaml.MarkedYAMLError as error:
        marked.errors.append(_syntax(error))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        marked.errors.append((line, f"character #x{error.character:04x} is not allowed in YAML"))
    except RecursionError:
        marked.errors.append((1, f"nested deeper than {MAX_DEPTH} levels"))
    return marked


def parse_value(text: str) -> Any:
    """One value as given on the command line; raises ValueError with the reason."""
    marked = parse(text)
    if marked.errors:
        raise ValueError("; ".join(reason for _, reason in marked.errors))
    return marked.value


def _tags(text: str) -> Iterator[tuple[int, str]]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 1
        if depth > MAX_DEPTH:
            yield line, f"nested deeper than {MAX_DEPTH} levels"
            return
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            yield line, f"YAML tag {_short(tag)} is refused; write the plain value"


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _syntax(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    context = f" {error.context}" if error.context else ""
    return (mark.line + 1 if mark else 1), f"YAML syntax: {error.problem}{context}"


class _Reader:
    """Builds plain values from nodes, noting lines and errors."""

    def __init__(self, marked: Marked) -> None:
        self.marked = marked
        self.num_nodes = 0
        self.open: set[int] = set()  # nodes being read: an alias to one of them is a cycle

    def read(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self.num_nodes += 1
        line = node.start_mark.line + 1
        self.marked.lines.setdefault(path, line)
        if self.num_nodes > MAX_NODES or depth > MAX_DEPTH or id(node) in self.open:
            if self.num_nodes <= MAX_NODES or self.num_nodes == MAX_NODES + 1:
                self.marked.errors.append((line, "aliases here unfold without end; write it out"))
            return None
        if isinstance(node, yaml.ScalarNode):
            return scalar(node.value) if node.style is None else node.value
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path, depth)
            return self._sequence(node, path, depth)
        finally:
            self.open.discard(id(node))

    def _sequence(self, node: yaml.Node, path: Path, depth: int) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            if self.num_nodes > MAX_NODES:
                break
            values.append(self.read(item, (*path, index), depth + 1))
        return values

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if self.num_nodes > MAX_NODES:
                break
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.marked.errors.append((line, "a key must be a word"))
                continue
            key = key_node.value
            if key == "<<":
                self.marked.errors.append((line, "merge key << is refused; write the fields out"))
                continue
            if key in values:
                first = self.marked.lines[(*path, key)]
                where = ".".join(map(str, (*path, key)))
                text = f"{where}: duplicate key; it stands in line {first} already"
                self.marked.errors.append((line, text))
                continue
            self.marked.lines[(*path, key)] = line
            values[key] = self.read(value_node, (*path, key), depth + 1)
        return values


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted word means."""
    if text in _NULLS:
        return None
    if text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if _INT.match(text) and len(text) < 300:
        return int(text.replace("_", ""))
    if _FLOAT.match(text):
        word = text.lower().replace("_", "")
        return float(word.replace(".", "") if word.endswith(("inf", "nan")) else word)
    return text
