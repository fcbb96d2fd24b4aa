"""Documents as people write them, in YAML or JSON: plain values only, so that nothing in a document comes to life and no few lines fill the memory.

    load(text, 131_072)           # plain Python values, or Invalid that says what to mend
    read(text, 65_536, note)      # a tree that knows the line of each part; `note` hears of every mistake

Anchors, aliases, tags, keys that are no text and keys said twice are mistakes. Values are those of YAML 1.2: `12:30` and `2026-12-24` are texts,
and so is `no`, unless `yes_no` asks for YAML 1.1's truth values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from shared.errors import Invalid

MAX_DEPTH = 12
MAX_PROBLEMS = 50
ANCHOR = "uses an anchor (& or *): write it out"
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
DECIMAL = re.compile(r"[-+]?((\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)", re.ASCII)
LONGEST_INTEGER = 19
WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
}
YES_NO = {
    **WORDS,
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF"), False),
}

Note = Callable[[int, str, str], object]
"""Hears of a mistake: its line, its path, and what is wrong, as the end of a sentence."""


@dataclass(frozen=True)
class Node:
    """A part of the document: a mapping (with the lines of its keys), a list, or a plain value."""

    line: int
    value: Any
    key_lines: dict[str, int] = field(default_factory=dict)


def read(
    text: str, max_bytes: int, note: Note, *, max_depth: int = MAX_DEPTH, yes_no: bool = False, on_part: Callable[[], None] = lambda: None
) -> Node | None:
    """The document; None where reading on makes no sense, of which `note` has heard. `on_part` is called for each part: a large document takes
    a while."""
    return _read(text, max_bytes, _Reading(note, YES_NO if yes_no else WORDS, max_depth, on_part))


def _read(text: str, max_bytes: int, reading: _Reading) -> Node | None:
    if len(text.encode(errors="replace")) > max_bytes:
        reading.note(1, "", f"is larger than {max_bytes // 1024} KB")
        return None
    return reading.document(text)


def load(text: str, max_bytes: int, *, max_depth: int = MAX_DEPTH, yes_no: bool = False) -> Any:
    """The document's plain values; its keys are names, and no numbers. Raises Invalid for its first mistake: `errors` is a list of
    {line, path, detail}."""

    def refuse(line: int, path: str, what: str) -> None:
        said = f"line {line}: {path or 'the document'} {what}"
        if what == ANCHOR:
            said = f"anchors and aliases (& and *) are not taken; {said}"
        raise Invalid(said, errors=[{"line": line, "path": path, "detail": what}])

    root = _read(text, max_bytes, _Reading(refuse, YES_NO if yes_no else WORDS, max_depth, keys_are_names=True))
    return None if root is None else _plain(root)


def as_stored_before(text: str, *, yes_no: bool = False) -> str:
    """For migrations: a document that was stored when YAML 1.1 was taken whole (anchors, tags, `.5`, keys said twice), as JSON of what it meant
    then; the text itself where `load` takes it so."""
    meant = yaml.load(text, yaml.SafeLoader if yes_no else _Words)  # noqa: S506 - both are safe loaders
    try:
        if load(text, len(text.encode()), yes_no=yes_no) == meant:
            return text
    except Invalid:
        pass
    return json.dumps(meant, ensure_ascii=False, default=str)


class _Words(yaml.SafeLoader):
    """YAML 1.1 whose yes and no are words."""


_Words.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in of if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, of in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, value in node.value.items()}
    return [_plain(one) for one in node.value] if isinstance(node.value, list) else node.value


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


class _Enough(Exception):
    """There is no use in reading on."""


class _Reading:
    """A tree of our own, made from the parser's events."""

    def __init__(
        self,
        note: Note,
        words: Mapping[str, bool | None],
        max_depth: int,
        on_part: Callable[[], None] = lambda: None,
        keys_are_names: bool = False,
    ) -> None:
        self._note, self.words, self.max_depth, self.on_part, self.keys_are_names = note, words, max_depth, on_part, keys_are_names
        self.mistakes = 0

    def note(self, line: int, path: str, what: str) -> None:
        self.mistakes += 1
        self._note(line, path, what)

    def document(self, text: str) -> Node | None:
        if text.lstrip().startswith("{"):
            text = text.replace("\t", " ")  # JSON may be indented by tabs, and has none in its texts
        try:
            events = iter(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
            roots = [self._node(event, events, "", 1) for event in events if isinstance(event, yaml.NodeEvent)]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.note((mark.line if mark else 0) + 1, "", f"is neither YAML nor JSON: {error.problem or error.context}")
            return None
        except (yaml.YAMLError, UnicodeError):
            self.note(1, "", "contains characters that no text has")
            return None
        except _Enough:
            return None
        if len(roots) != 1:
            self.note(1, "", "is empty" if not roots else "is followed by another")
            return None
        return roots[0]

    def _node(self, event: Any, events: Iterator[Any], path: str, depth: int) -> Node:
        line = event.start_mark.line + 1
        self.on_part()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self.note(line, path, ANCHOR)
        elif event.tag is not None:
            self.note(line, path, "has a tag (!): write the plain value")
        if depth > self.max_depth or self.mistakes > MAX_PROBLEMS:
            self.note(line, path, "is nested too deeply" if depth > self.max_depth else "has too many mistakes to read on")
            raise _Enough
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(line, events, path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._node(event, events, f"{path}[{len(items)}]", depth + 1))
            return Node(line, items)
        if isinstance(event, yaml.ScalarEvent):
            return Node(line, self._value(event))
        return Node(line, None)

    def _mapping(self, line: int, events: Iterator[Any], path: str, depth: int) -> Node:
        entries: dict[str, Node] = {}
        key_lines: dict[str, int] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key_line = event.start_mark.line + 1
            self._node(event, events, path, depth + 1)
            key = event.value if isinstance(event, yaml.ScalarEvent) else ""
            value = self._node(next(events), events, join(path, key), depth + 1)
            if not isinstance(event, yaml.ScalarEvent) or (self.keys_are_names and not isinstance(self._value(event), str)):
                self.note(key_line, path, "has a key that is no text")
            elif key in entries:
                self.note(key_line, join(path, key), f"is there already, on line {key_lines[key]}")
            else:
                entries[key], key_lines[key] = value, key_line
        return Node(line, entries, key_lines)

    def _value(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # in quotes
            return text
        if text in self.words:
            return self.words[text]
        if INTEGER.fullmatch(text) and len(text) <= LONGEST_INTEGER:
            return int(text)
        return float(text) if DECIMAL.fullmatch(text) else text
