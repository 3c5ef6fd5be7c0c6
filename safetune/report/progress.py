"""Two listeners for progress: one that redraws lines on a terminal, one that logs plain lines everywhere else.

Both write to the stream they are given and never raise: a terminal that went away must not end a training.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from safetune.core.digest import JSON, short
from safetune.protocols import Progress
from safetune.report.text import PLAIN, Paint, duration, name, width
from safetune.report.untrusted import render_untrusted

_LINE = 160
_REDRAW_SECONDS = 0.1
_QUIET_SECONDS = 1.0
_TENTHS = 10
# These come many times; everything else is said once and must not be lost.
_FIGURES = frozenset({"step", "generated", "attributed"})


def sentence(progress: Progress) -> str:
    """Return one piece of progress in words, without its subject; empty for a kind that says nothing to a person."""
    fields = progress.fields
    words = _WORDS.get(progress.kind)
    return words(fields) if words else ""


def _stage(fields: Mapping[str, JSON]) -> str:
    steps = fields.get("steps")
    named = ", ".join(name(s) for s in steps) if isinstance(steps, list | tuple) else ""
    why = render_untrusted(fields.get("why", ""), 120)
    return f"{named or 'nothing to do'}: {why}" if why else named


def _step(fields: Mapping[str, JSON]) -> str:
    loss = _number(fields, "loss")
    parts = [f"step {_whole(fields, 'step')}/{_whole(fields, 'steps')}", f"loss {loss:.4f}" if loss is not None else ""]
    return _joined(*parts, _speed(fields), _left(fields))


def _generated(fields: Mapping[str, JSON]) -> str:
    return _joined(f"{_whole(fields, 'done')}/{_whole(fields, 'total')} responses", _speed(fields), _left(fields))


def _guarded(fields: Mapping[str, JSON]) -> str:
    return f"{_number(fields, 'rows') or 0:,.0f} rows looked at, {_number(fields, 'kept') or 0:,.0f} kept"


def _settled(fields: Mapping[str, JSON]) -> str:
    found = short(str(fields.get("checkpoint", "")))
    return f"{name(fields.get('outcome', ''))} {name(found)}, gate {name(fields.get('verdict', ''))}"


_WORDS: Mapping[str, Callable[[Mapping[str, JSON]], str]] = {
    "stage": _stage,
    "start": lambda f: f"starting, {_whole(f, 'steps')} steps",
    "step": _step,
    "generated": _generated,
    "guarded": _guarded,
    "screened": lambda f: f"{_whole(f, 'done')}/{_whole(f, 'total')} rows screened",
    "attributed": lambda f: f"{_whole(f, 'done')}/{_whole(f, 'total')} rows compared",
    "resumed": lambda f: f"resumed after step {_whole(f, 'step')}",
    "saved": lambda f: f"saved at step {_whole(f, 'step')}",
    "settled": _settled,
    "note": lambda f: render_untrusted(f.get("text", ""), 120),
}


def _number(fields: Mapping[str, JSON], key: str) -> float | None:
    value = fields.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(fields: Mapping[str, JSON], key: str) -> str:
    value = _number(fields, key)
    return f"{value:.0f}" if value is not None else "?"


def _speed(fields: Mapping[str, JSON]) -> str:
    value = _number(fields, "tokens_per_s")
    return f"{value:,.0f} tokens/s" if value is not None else ""


def _left(fields: Mapping[str, JSON]) -> str:
    value = _number(fields, "seconds_left")
    return f"{duration(value)} left" if value is not None else ""


def _joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def _share(progress: Progress) -> float | None:
    """Return how much of the work is done, in [0, 1], where the figures say so."""
    done, total = ("step", "steps") if progress.kind == "step" else ("done", "total")
    part, whole = _number(progress.fields, done), _number(progress.fields, total)
    return part / whole if part is not None and whole else None


@dataclass(slots=True)
class _Said:
    """What the plain log has said of one subject: when, how many tenths of the work, and what waits to be said."""

    at: float = float("-inf")
    tenths: int = -1
    held: str = ""


class PlainLog:
    """Lines for logs: start, about every tenth of the work, saved, resumed, settled.

    At most one line per second and subject: what must not be lost waits and is said with the next line.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._said: dict[str, _Said] = {}

    def __call__(self, progress: Progress) -> None:
        """Log one piece of progress, now or with a later line."""
        now = self._clock()
        said = self._said.setdefault(progress.subject, _Said())
        text = sentence(progress)
        if progress.kind in _FIGURES:
            share = _share(progress)
            tenths = int(share * _TENTHS) if share is not None else 0
            if tenths > said.tenths and now - said.at >= _QUIET_SECONDS:
                said.tenths = tenths
                said.held = _together(said.held, text)
        elif text:
            if progress.kind in ("start", "stage"):
                said.tenths = -1
            said.held = _together(said.held, text)
        self._flush(now)

    def close(self) -> None:
        """Say what still waits."""
        self._flush(float("inf"))

    def _flush(self, now: float) -> None:
        for subject, said in self._said.items():
            if said.held and now - said.at >= _QUIET_SECONDS:
                _write(self._stream, f"{name(subject)}: {said.held}\n")
                said.at, said.held = now, ""


def _together(held: str, text: str) -> str:
    return f"{held}; {text}" if held else text


class LiveLines:
    """One line per subject at the bottom of a terminal, redrawn in place; a settled stage leaves its line behind."""

    def __init__(self, stream: TextIO, clock: Callable[[], float], paint: Paint = PLAIN) -> None:
        self._stream = stream
        self._clock = clock
        self._paint = paint
        self._lines: dict[str, str] = {}
        self._drawn = 0
        self._drawn_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Show one piece of progress; figures that come faster than ten times a second are skipped."""
        text, now = sentence(progress), self._clock()
        if not text:
            return
        lasting = progress.kind in ("settled", "note", "resumed")
        if not lasting:
            self._lines[progress.subject] = text
            if progress.kind in _FIGURES and now - self._drawn_at < _REDRAW_SECONDS:
                return
        elif progress.kind == "settled":
            self._lines.clear()  # its training and its evaluations are over with it
        self._draw(now, self._line(progress.subject, text) if lasting else "")

    def close(self) -> None:
        """Draw the last state once more and leave the cursor below it."""
        self._draw(self._clock(), "")
        self._lines.clear()
        self._drawn = 0

    def _line(self, subject: str, text: str) -> str:
        return fit(f"{name(subject)}  {text}", shutil.get_terminal_size().columns - 1)

    def _draw(self, now: float, lasting: str) -> None:
        """Go back over what was drawn, clear it, and write the lasting line (if any) and all current lines."""
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        current = [self._line(subject, text) for subject, text in self._lines.items()]
        head = f"{self._paint.strong(lasting)}\n" if lasting else ""
        _write(self._stream, back + head + "".join(f"{line}\n" for line in current))
        self._drawn, self._drawn_at = len(current), now


def fit(line: str, cells: int) -> str:
    """Return as much of a line as fits into `cells` of a terminal."""
    cells = max(cells, 20)
    if width(line) <= cells:
        return line
    while width(line) > cells - 3:
        line = line[: cells - 3] if line.isascii() else line[:-1]
    return f"{line}..."


def _write(stream: TextIO, text: str) -> None:
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()
