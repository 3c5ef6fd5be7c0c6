"""Next steps that can be typed as they stand: a command that is named in one keeps the `--store` that was given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

DEFAULT_STORE = Path(".safetune")

_STEP = re.compile(r"^\s*(next|hint): ")
_COMMAND = re.compile(
    r"\bsafetune (plan|run|evaluate|rollback|status|log|verify|export|approve|override)\b(?! --store)"
)
_given: list[Path] = []


def remember(store: Path) -> Path:
    """Keep the store that was given on the command line, and return it."""
    _given[:] = [] if store == DEFAULT_STORE else [store]
    return store


def with_store(lines: Iterable[str]) -> list[str]:
    """Return lines with `--store` behind the commands of their next steps and hints, when one was given."""
    if not _given:
        return list(lines)
    from safetune.report.untrusted import render_untrusted

    option = f" --store {render_untrusted(shlex.quote(str(_given[0])), 1000)}"
    return [_COMMAND.sub(lambda found: found.group() + option, line) if _STEP.match(line) else line for line in lines]
