"""Read one YAML document strictly: plain values, lists and mappings, each with its place; nothing else.

It is built from the parser's events and not from PyYAML's node tree, because the events tell an explicit tag from an
implied one, and because the caps then stop a bomb while it is being read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from safetune.core.diagnostics import Diagnostic
from safetune.playbook.nodes import Node, Value
from safetune.playbook.scalars import read_plain
from safetune.playbook.text import Place, Text, Unreadable, unprintable

MAX_DEPTH = 24
MAX_NODES = 10_000

# After so many mistakes the next ones help nobody.
MOST = 100

# Before a document they may stand in thousands, which libyaml reads in quadratic time.
_DIRECTIVE = re.compile("^%", re.MULTILINE)

_NO_TAGS = "a playbook is plain data: remove the tag"
_NO_ANCHORS = "write the value out where it is needed, or share it through `extends`"


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still open."""

    place: Place
    mapping: bool
    items: list[Node] = field(default_factory=list)
    members: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)
    # A key that has been read and waits for its value; None is a key that was refused.
    key: str | None = None
    has_key: bool = False


def parse(text: Text) -> tuple[Node, tuple[Diagnostic, ...]]:
    """Return the document and what was refused in it.

    Raises:
        Unreadable: when the text is no YAML, too deep or too long, so that nothing more can be said.
    """
    directive = _DIRECTIVE.search(text.content)
    if directive is not None:
        place = Place(text, text.content.count("\n", 0, directive.start()) + 1, 1)
        hint = "remove the line; a text that begins with % is indented or in quotes"
        raise Unreadable(place.diagnostic("SP113", "YAML directives (%YAML, %TAG) are not allowed", hint))
    builder = _Builder(text)
    try:
        for event in _events(text):
            builder.take(event)
        return builder.document(), tuple(builder.problems)
    except Unreadable as error:
        raise Unreadable(*builder.problems, *error.diagnostics) from None


def _events(text: Text) -> Iterator[Any]:
    """Yield the parser's events; libyaml where it is there, which is some twenty times faster."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from yaml.parse(text.content, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(text, mark.line + 1, mark.column + 1) if mark else Place(text, 1, 1)
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise Unreadable(place.diagnostic("SP104", f"this is not YAML: {reason}", _syntax_hint(place))) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(getattr(error, "reason", "") or type(error).__name__)
        raise Unreadable(Place(text, 1, 1).diagnostic("SP104", f"this is not YAML: {reason}")) from None


def _syntax_hint(place: Place) -> str:
    """Guess the commonest causes from the line."""
    line = place.text.lines[place.line - 1] if place.line <= len(place.text.lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, not with tabs"
    if line.count(": ") > 1 and "{" not in line:
        return 'quote a text that holds ": "'
    return "check the indentation, brackets and quotes on this line and the one before"


class _Builder:
    """Takes events one by one and keeps at most one tree."""

    def __init__(self, text: Text) -> None:
        self.problems: list[Diagnostic] = []
        self._text = text
        self._stack: list[_Frame] = []
        self._root: Node | None = None
        self._documents = 0
        self._nodes = 0

    def take(self, event: Any) -> None:
        """Take one event of the parser."""
        kind = type(event).__name__
        place = Place(self._text, event.start_mark.line + 1, event.start_mark.column + 1)
        if kind == "DocumentStartEvent":
            self._start_document(place)
        elif kind in ("ScalarEvent", "AliasEvent"):
            self._count(place)
            self._check_marks(event, place)
            self._put(self._alias(event, place) if kind == "AliasEvent" else self._scalar(event, place))
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._count(place)
            self._check_marks(event, place)
            self._open(place, kind == "MappingStartEvent")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._close()

    def document(self) -> Node:
        """Return the whole document.

        Raises:
            Unreadable: when there is none.
        """
        if self._root is None or (self._root.value is None and not self._root.broken):
            hint = "`safetune init` writes a playbook to start from"
            raise Unreadable(Place(self._text, 1, 1).diagnostic("SP113", "the file is empty", hint))
        return self._root

    def _refuse(self, place: Place, code: str, message: str, hint: str = "") -> None:
        if len(self.problems) < MOST:
            self.problems.append(place.diagnostic(code, message, hint))

    def _start_document(self, place: Place) -> None:
        self._documents += 1
        if self._documents > 1:
            hint = "one file holds one playbook; remove the `---`"
            raise Unreadable(place.diagnostic("SP113", "a second YAML document starts here", hint))

    def _count(self, place: Place) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            message, hint = f"the file holds more than {MAX_NODES:,} values", "split it; see `extends`"
            raise Unreadable(place.diagnostic("SP106", message, hint))

    def _check_marks(self, event: Any, place: Place) -> None:
        """Refuse tags and anchors; the value itself is still checked."""
        if getattr(event, "tag", None) is not None:
            self._refuse(place, "SP107", f"YAML tags are not allowed, found {_tag(event.tag)}", _NO_TAGS)
        if getattr(event, "anchor", None) is not None and type(event).__name__ != "AliasEvent":
            self._refuse(place, "SP108", f"YAML anchors are not allowed, found &{event.anchor[:40]}", _NO_ANCHORS)

    def _alias(self, event: Any, place: Place) -> Node:
        self._refuse(place, "SP109", f"YAML aliases are not allowed, found *{event.anchor[:40]}", _NO_ANCHORS)
        return Node(place, None, broken=True)

    def _scalar(self, event: Any, place: Place) -> Node:
        wrong = unprintable(event.value)
        if wrong:
            self._refuse(place, "SP103", f"the text holds the character {wrong}, which is not text", "remove it")
            return Node(place, None, broken=True)
        if event.tag is not None:
            return Node(place, None, broken=True)
        plain = not event.style and event.implicit[0]
        is_key = bool(self._stack) and self._stack[-1].mapping and not self._stack[-1].has_key
        value: Value = read_plain(event.value) if plain and not is_key else event.value
        return Node(place, value, plain)

    def _open(self, place: Place, mapping: bool) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise Unreadable(place.diagnostic("SP105", f"the file is nested deeper than {MAX_DEPTH} levels"))
        top = self._stack[-1] if self._stack else None
        if top is not None and top.mapping and not top.has_key:
            hint = "use a plain word as the key"
            raise Unreadable(place.diagnostic("SP112", "a key must be a plain text, not a list or a mapping", hint))
        self._stack.append(_Frame(place, mapping))

    def _close(self) -> None:
        frame = self._stack.pop()
        value: Value = frame.members if frame.mapping else tuple(frame.items)
        self._put(Node(frame.place, value, keys=frame.keys))

    def _put(self, node: Node) -> None:
        """Put a finished node where it belongs: the next item, the next key, the value of the last key, or the root."""
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if not top.mapping:
            top.items.append(node)
        elif not top.has_key:
            top.key, top.has_key = self._key(top, node), True
        else:
            if top.key is not None:
                top.members[top.key] = node
            top.key, top.has_key = None, False

    def _key(self, frame: _Frame, node: Node) -> str | None:
        """Return a key that may be used, or None after saying why not."""
        if node.broken:
            return None
        key = node.text
        if key == "<<" and node.plain:
            self._refuse(node.place, "SP110", "YAML merge keys (<<) are not allowed", _NO_ANCHORS)
            return None
        if not key.strip():
            self._refuse(node.place, "SP112", "a key must not be empty", "use a plain word as the key")
            return None
        first = frame.keys.get(key)
        if first is not None:
            message = f"the key {quote(key)} was given before, in line {first.line}"
            self._refuse(node.place, "SP111", message, "keep one of the two")
            return None
        frame.keys[key] = node.place
        return key


def quote(text: object, longest: int = 60) -> str:
    """Return a text in double quotes, on one line and cut when it is long, for use in a message."""
    shown = str(text)
    return json.dumps(shown if len(shown) <= longest else shown[: longest - 3] + "...", ensure_ascii=False)


def _tag(tag: str) -> str:
    return quote(tag.replace("tag:yaml.org,2002:", "!!"), 40)
