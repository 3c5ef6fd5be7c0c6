"""Where a command writes: lines for a person or one JSON object on stdout, progress on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from safetune.cli.boundary import write
from safetune.core.errors import ExitCode

if TYPE_CHECKING:
    from safetune.protocols import Listener
    from safetune.report.text import Paint


def is_capable(stream: TextIO) -> bool:
    """Say whether a stream is a terminal that may get colours and cursor movements (see no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint_for(stream: TextIO) -> Paint:
    """Return the colours that a stream may get."""
    from safetune.report.text import Paint

    return Paint(is_capable(stream))


def show(
    as_json: bool,
    lines: Callable[[Paint], list[str]],
    document: Callable[[], Mapping[str, object]],
    code: ExitCode = ExitCode.DONE,
) -> int:
    """Write a result in the form that was asked for, and return its exit code."""
    if as_json:
        from safetune.report.json_view import json_text

        write([json_text({**document(), "exit_code": int(code)})])
    else:
        write(lines(paint_for(sys.stdout)))
    return int(code)


@contextmanager
def progress(as_json: bool) -> Iterator[Listener]:
    """Give a listener that shows progress on stderr: live lines on a terminal, a plain log everywhere else."""
    from safetune.report.progress import LiveLines, PlainLog

    live = is_capable(sys.stderr) and not as_json
    listener = (
        LiveLines(sys.stderr, time.monotonic, paint_for(sys.stderr)) if live else PlainLog(sys.stderr, time.monotonic)
    )
    try:
        yield listener
    finally:
        listener.close()
