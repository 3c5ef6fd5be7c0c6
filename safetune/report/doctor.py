"""What this machine offers: packages, processors, disk, folders; and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from safetune.report.text import PLAIN, Paint, columns
from safetune.report.untrusted import render_untrusted

_SENTENCE = 200


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, whether safetune can work with it, and what to do if not."""

    topic: str
    found: str
    good: bool = True
    hint: str = ""


def doctor_lines(checks: tuple[Check, ...], paint: Paint = PLAIN) -> list[str]:
    """Return one line per check, and a hint below each that is not good."""
    rows = [
        ("ok" if c.good else "MISSING", render_untrusted(c.topic, 40), render_untrusted(c.found, _SENTENCE))
        for c in checks
    ]
    lines = []
    for check, line in zip(checks, columns(rows), strict=True):
        lines.append(line if check.good else paint.verdict("FAIL", line[:7]) + line[7:])
        lines += [f"         hint: {render_untrusted(check.hint, _SENTENCE)}"] if check.hint and not check.good else []
    missing = sum(not c.good for c in checks)
    return [*lines, f"{missing} of {len(checks)} are missing" if missing else "everything that safetune needs is there"]
