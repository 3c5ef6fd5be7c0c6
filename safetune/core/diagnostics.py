"""Mistakes in a text that a person wrote: where each one is, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

# Longer names are no typing mistakes, and comparing them takes time.
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake.

    `file` is the path as a person knows it; `line` and `column` count characters from 1. `excerpt` is the line, cut
    when it is very long, and `caret` is the column in the excerpt. The excerpt is untrusted text. `hint` says what
    would be right, or is empty.
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    excerpt: str = ""
    hint: str = ""
    caret: int = 1

    @property
    def where(self) -> str:
        """Return `file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"?` when a known name is close to `name`, else an empty string."""
    if len(name) > _LONGEST_NAME:
        return ""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""
