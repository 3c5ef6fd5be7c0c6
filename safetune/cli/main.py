"""Entry point: run a command inside the error boundary and return its exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from safetune.cli import boundary
from safetune.core.errors import ExitCode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when none is given) and return its exit code; nothing is ever raised."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    boundary.prepare_streams()
    try:
        from safetune.cli.app import command

        code = command().main(args=args, prog_name="safetune", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # typer turns Ctrl-C into this number and says nothing
            raise KeyboardInterrupt
        return boundary.finish(int(code or 0))
    except BaseException as error:
        return boundary.finish(boundary.report(error, args))
