"""Errors as a person reads them: what is wrong, where, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import PlaybookError, SafetuneError, StalePlanError
from safetune.report.json_view import jsonable
from safetune.report.text import PLAIN, Paint, counted, width
from safetune.report.untrusted import render_untrusted

_MESSAGE = 1000
_PATH = 200


def error_lines(error: SafetuneError, paint: Paint = PLAIN) -> list[str]:
    """Return an error as lines: the message, every mistake or change, and the hint."""
    if isinstance(error, PlaybookError):
        return _diagnostics(error.diagnostics, paint)
    lines = [f"{paint.verdict('ERROR', 'error')}: {render_untrusted(error.message, _MESSAGE)}"]
    if isinstance(error, StalePlanError):
        lines += [f"  changed  {render_untrusted(change, _MESSAGE)}" for change in error.changes]
    return lines + _hint(error.hint)


def _hint(hint: str) -> list[str]:
    return [f"  hint: {render_untrusted(hint, _MESSAGE)}"] if hint else []


def _diagnostics(found: tuple[Diagnostic, ...], paint: Paint) -> list[str]:
    lines: list[str] = []
    for one in found:
        place = f"{render_untrusted(one.file, _PATH)}:{one.line}:{one.column}"
        message = f"{paint.verdict('ERROR', render_untrusted(one.code, 40))} {render_untrusted(one.message, _MESSAGE)}"
        lines.append(f"{paint.strong(place)}: {message}")
        lines += _excerpt(one, paint) + _hint(one.hint)
    lines.append(f"{counted(len(found), 'mistake')}; nothing was done")
    return lines


def _excerpt(one: Diagnostic, paint: Paint) -> list[str]:
    """The line and a caret under the place; the caret moves with every escape that the line needed before it."""
    if not one.excerpt.strip():
        return []
    text = one.excerpt.replace("\t", " ")
    before = width(render_untrusted(text[: one.caret - 1], _MESSAGE))
    number = str(one.line)
    line = f"  {number} | {render_untrusted(text, _MESSAGE)}"
    return [line, f"  {' ' * len(number)} | {' ' * before}{paint.verdict('ERROR', '^')}"]


def error_json(error: SafetuneError) -> Mapping[str, object]:
    """Return the JSON document of an error: what kind, message, hint, every mistake or change, and the exit code."""
    found: dict[str, object] = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, PlaybookError):
        found["diagnostics"] = jsonable(error.diagnostics)
    if isinstance(error, StalePlanError):
        found["changes"] = list(error.changes)
    return {"error": found, "exit_code": int(error.exit_code)}
