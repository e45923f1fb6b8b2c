"""A contract's text as a tree whose every value knows its line; a small and strict part of YAML.

Mappings, sequences and scalars are all there is: no anchors, aliases, merge keys or tags, so that a
file is exactly as large as it looks, and nothing is constructed from it. Scalars stay text with their
style; what they mean is decided by the field that reads them (`fields.py`), not guessed by their looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import yaml

from tallystick.core.errors import BadInput, Problems

CHARACTERS_MAX = 256 * 1024
"""A contract of several hundred plans fits well; more is not a contract."""
VALUES_MAX = 20_000
DEPTH_MAX = 16
NEXT_STEP = "mend the contract where each line says, then run `tally contract check` on it"

_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it stands in the file; `quoted` tells "10" from 10."""

    line: int
    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of values."""

    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping from names to values, in the order of the file; `key_lines` says where each name stands."""

    line: int
    entries: dict[str, Node]
    key_lines: dict[str, int] = field(default_factory=dict)


Node = Scalar | Sequence | Table


def parse_document(text: str, file: str, what: str = "a contract") -> tuple[Table, list[BadInput]]:
    """The tree of the text, and the duplicate names found on the way.

    Args:
        text: the whole file.
        file: what errors call it.
        what: what the file is to be, in the words of errors.

    Raises:
        Problems: `invalid_contract`, when there is no tree to go on with: not YAML, empty, not a mapping,
            too large, or using what a contract does not (anchors, aliases, tags, several documents).
    """
    try:
        if len(text) > CHARACTERS_MAX:
            raise _refusal(file, 1, f"the file has {len(text):,} characters, more than {CHARACTERS_MAX:,}")
        bad = _NOT_TEXT.search(text.replace("\r\n", "\n").removeprefix("\ufeff"))
        if bad:
            line = text.count("\n", 0, bad.start()) + 1
            raise _refusal(file, line, f"the character {bad.group()!r} does not belong in a text file")
        return _Builder(text, file, what).build()
    except yaml.MarkedYAMLError as error:
        raise _one(_explain_syntax(error, text, file)) from None
    except yaml.YAMLError as error:
        raise _one(_refusal(file, 1, f"this is not YAML: {error}")) from None
    except BadInput as error:
        raise _one(error) from None


def line_of(root: Table, keys: Iterable[str]) -> int:
    """The line of the entry at that path of keys, as far down as it is written."""
    node: Node = root
    line = root.line
    for key in keys:
        if not isinstance(node, Table) or key not in node.entries:
            break
        line, node = node.key_lines[key], node.entries[key]
    return line


def _one(error: BadInput) -> Problems:
    return Problems("invalid_contract", [error], next_step=NEXT_STEP)


def _refusal(file: str, line: int, detail: str, code: str = "invalid_contract") -> BadInput:
    return BadInput(code, detail, next_step=NEXT_STEP, where=f"{file}:{line}")


def _explain_syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> BadInput:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    at = next(iter(text.splitlines()[line - 1 : line]), "")
    if "\t" in at[: len(at) - len(at.lstrip())] or "'\\t'" in str(error.problem):
        return _refusal(file, line, "a tab stands where spaces are due; YAML is indented with spaces only")
    context = f" {error.context}" if error.context else ""
    started = error.context_mark
    since = f" (begun on line {started.line + 1})" if started and started.line + 1 != line else ""
    return _refusal(file, line, f"this is not YAML: {error.problem or 'it cannot be read'}{context}{since}")


class _Builder:
    """Builds the tree from the parser's events, which keeps depth and size bounded while reading."""

    def __init__(self, text: str, file: str, what: str) -> None:
        self._file = file
        self._what = what
        self._instead = ", or let a plan extend another" if what == "a contract" else ""
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._values = 0
        self._problems: list[BadInput] = []

    def build(self) -> tuple[Table, list[BadInput]]:
        next(self._events)  # the start of the stream
        begun = next(self._events)
        if isinstance(begun, yaml.StreamEndEvent):
            raise _refusal(self._file, 1, f"the file is empty; {self._what} is a mapping of names to values")
        root = self._node(next(self._events), depth=0)
        next(self._events)  # the end of the document
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            raise _refusal(self._file, root.line, f"the file holds several documents; {self._what} is one")
        if not isinstance(root, Table):
            found = "a list" if isinstance(root, Sequence) else "a single value"
            raise _refusal(
                self._file, root.line, f"the file holds {found}; {self._what} is a mapping of names to values"
            )
        return root, self._problems

    def _node(self, event: yaml.Event, depth: int) -> Node:
        line = event.start_mark.line + 1 if event.start_mark else 1
        self._values += 1
        if self._values > VALUES_MAX:
            raise _refusal(self._file, line, f"the file has more than {VALUES_MAX:,} values")
        if depth > DEPTH_MAX:
            raise _refusal(self._file, line, f"values are nested deeper than {DEPTH_MAX}")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            what = f"{self._what} has no anchors (&) and aliases (*); write it out{self._instead}"
            raise _refusal(self._file, line, what)
        if tag := getattr(event, "tag", None):
            raise _refusal(self._file, line, f"{self._what} has no tags such as {tag}")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(line, depth)
        return self._table(line, depth)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Scalar:
        # Escapes in double quotes can spell what the file itself may not hold.
        if _NOT_TEXT.search(event.value):
            raise _refusal(self._file, line, "the text has control characters or halves of surrogate pairs")
        return Scalar(line, event.value, quoted=event.style is not None)

    def _sequence(self, line: int, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Sequence(line, tuple(items))

    def _table(self, line: int, depth: int) -> Table:
        table = Table(line, {})
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise _refusal(self._file, key.line, "a name is a single word, not a list or a mapping")
            value = self._node(next(self._events), depth + 1)
            if key.text in table.entries:
                first = table.key_lines[key.text]
                detail = f"{key.text!r} stands here a second time; the first is on line {first}"
                self._problems.append(_refusal(self._file, key.line, detail, "duplicate_key"))
                continue
            table.entries[key.text] = value
            table.key_lines[key.text] = key.line
        return table
