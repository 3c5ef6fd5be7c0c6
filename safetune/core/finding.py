"""A finding: what a guard saw in a row, where, and what was done about it. Never the text itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safetune.core.digest import JSON


@dataclass(frozen=True, slots=True)
class Span:
    """A part of one text of a row: `path` such as `prompt[0].content`, from `start` to before `end`, in characters."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule of one guard found. `row` is the row's id and `line` its line in `file` (from 1); all empty when
    it is about the whole source.

    `action` is what was done: flag, redact, drop or block. `note` may name a kind or a count, never the text found.
    """

    source: str
    row: str
    line: int
    guard: str
    rule: str
    action: str
    span: Span | None = None
    note: str = ""
    file: str = ""

    @property
    def json(self) -> Mapping[str, JSON]:
        """The JSON form, as it is stored."""
        found: dict[str, JSON] = {"source": self.source, "row": self.row, "line": self.line}
        found |= {"guard": self.guard, "rule": self.rule, "action": self.action}
        if self.span is not None:
            found["span"] = {"path": self.span.path, "start": self.span.start, "end": self.span.end}
        also = {"file": self.file, "note": self.note}
        return {**found, **{name: value for name, value in also.items() if value}}
