"""Figures as a person reads them, and columns that line up. Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from safetune.core.alpha import BudgetStanding
from safetune.core.digest import short
from safetune.report.untrusted import render_untrusted

UNKNOWN = "unknown"
NOTHING = "-"
_NAME = 48
_COLOURS = {"PASS": "32", "FAIL": "31", "ERROR": "31", "INCONCLUSIVE": "33"}


@dataclass(frozen=True, slots=True)
class Paint:
    """Whether colours may be used. Without them every method returns its text unchanged."""

    colour: bool = False

    def verdict(self, word: str, shown: str = "") -> str:
        """Return `shown` (or the word itself) in the colour of the verdict `word`."""
        return self._with(_COLOURS.get(word, ""), shown or word)

    def strong(self, text: str) -> str:
        """Return text in bold."""
        return self._with("1", text)

    def faint(self, text: str) -> str:
        """Return text that matters less."""
        return self._with("2", text)

    def _with(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code and text else text


PLAIN = Paint()


def name(text: object) -> str:
    """Return a name from a file: one line, harmless, at most 48 characters."""
    return render_untrusted(text, _NAME)


def digest_text(digest: str) -> str:
    """Return the first 12 digits of a digest, or `none`."""
    return render_untrusted(short(digest), 12) or "none"


def unpaid_text(found: BudgetStanding) -> str:
    """Return, to be added to what was spent, how often somebody looked at a gate's prompts without paying."""
    return f", {counted(len(found.unpaid), 'unpaid look')} (evidence only)" if found.unpaid else ""


def percent(rate: float | None) -> str:
    """Return a rate in per cent with one decimal; `-` when there is none or it is no number."""
    return f"{100 * rate:.1f}%" if rate is not None and math.isfinite(rate) else NOTHING


def points(difference: float | None) -> str:
    """Return a difference of rates in percentage points, signed."""
    return (
        f"{_no_minus_zero(100 * difference):+.1f}" if difference is not None and math.isfinite(difference) else NOTHING
    )


def _no_minus_zero(value: float) -> float:
    return 0.0 if round(value, 1) == 0 else value


def size(count: int | None) -> str:
    """Return bytes as a person reads them, in powers of 1000; `unknown` for None."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """Return a time span: `40 s`, `14 min`, `3 h 20 min`; `unknown` for None or no number."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 file`, `2 files`, `18,204 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset(), gap: str = "  ") -> list[str]:
    """Return rows as lines with aligned columns; those in `right` are set flush right, the last is never padded."""
    if not rows:
        return []
    last = len(rows[0]) - 1
    widths = [max(width(row[n]) for row in rows) for n in range(last + 1)]
    lines = []
    for row in rows:
        padding = [" " * (widths[n] - width(cell)) for n, cell in enumerate(row)]
        cells = [
            padding[n] + cell if n in right else cell if n == last else cell + padding[n] for n, cell in enumerate(row)
        ]
        lines.append(gap.join(cells).rstrip())
    return lines


def width(text: str) -> int:
    """Return how many cells of a terminal a text takes (Unicode Standard Annex 11: wide characters take two)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
