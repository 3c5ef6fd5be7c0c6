"""The single error boundary: every exception becomes a message, a hint and an exit code; a bug becomes a crash file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from safetune.cli.next_step import with_store
from safetune.core.errors import ExitCode, MachineError, SafetuneError, UsageError

_LONG = 20_000


def prepare_streams() -> None:
    """Make writing safe: closed streams become silent ones, and what an encoding cannot show becomes an escape."""
    for number, stream in ((1, "stdout"), (2, "stderr")):
        found = getattr(sys, stream)
        if found is None:  # the descriptor was closed before we were started
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - lives as long as the process
        elif hasattr(found, "reconfigure"):
            found.reconfigure(errors="backslashreplace")


def write(lines: Iterable[str], *, error: bool = False) -> None:
    """Write lines to stdout (or stderr); a reader that went away is no error.

    Raises:
        MachineError: when the machine refuses, for example because the disk behind stdout is full.
    """
    stream = sys.stderr if error else sys.stdout
    try:
        stream.write("".join(f"{line}\n" for line in with_store(lines)))
        stream.flush()
    except BrokenPipeError:
        _silence(stream.fileno())
    except OSError as failure:
        _silence(stream.fileno())
        raise MachineError(
            f"cannot write the result: {failure.strerror}", hint="what was done is recorded; see: safetune log"
        ) from failure


def _silence(descriptor: int) -> None:
    """Point a descriptor at nothing, so that the last flush of the interpreter does not complain."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def finish(code: int) -> int:
    """Flush what is left and return `code` unchanged: a pipe that broke must not turn a FAIL into something else."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                _silence(stream.fileno())
    return code


def report(error: BaseException, args: Sequence[str]) -> int:
    """Tell a person (or, with --json, a program) about an exception, and return the exit code."""
    found = _known(error)
    if found is None:
        if isinstance(error, SystemExit):  # typer leaves with 1 when the reader of a help text went away
            return ExitCode.DONE if isinstance(error.__context__, BrokenPipeError) else ExitCode.BUG
        found = _crash(error, args)
    with suppress(SafetuneError, KeyboardInterrupt):  # with nowhere to write to, the exit code still says it
        _tell(found, "--json" in args)
    return int(found.exit_code)


def _tell(error: SafetuneError, as_json: bool) -> None:
    from safetune.report.errors import error_json, error_lines

    if as_json:
        from safetune.report.json_view import json_text

        write([json_text(error_json(error))])
        return
    from safetune.cli.console import paint_for

    write(error_lines(error, paint_for(sys.stderr)), error=True)


def _known(error: BaseException) -> SafetuneError | None:
    """Return what an exception means for a person, or None when it is a bug."""
    if isinstance(error, SafetuneError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return _Interrupted("interrupted", hint="run the same command again; what was recorded stays")
    if isinstance(error, MemoryError):
        return MachineError("there is not enough memory", hint="close other programs, or use a smaller model")
    if isinstance(error, OSError):
        return _machine(error)
    if isinstance(error, UnicodeEncodeError):
        return _unwritable(error)
    return _usage(error)


class _Interrupted(SafetuneError):
    """Ctrl-C outside of a run."""

    exit_code = ExitCode.INTERRUPTED


class _Bug(SafetuneError):
    """Something that must not happen."""

    exit_code = ExitCode.BUG


def _machine(error: OSError) -> SafetuneError | None:
    """Return what the machine refused; a file that is missing or in the way, but has no name, is a bug."""
    from safetune.state.atomic import machine_errors

    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return MachineError("the working folder does not exist any more", hint="change to a folder that exists")
    unnamed = error.filename in (None, "")
    if unnamed and isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError | IsADirectoryError):
        return None
    try:
        with machine_errors("go on" if unnamed else f"use {os.fsdecode(error.filename)}"):
            raise error
    except MachineError as found:
        return found


def _is_nowhere() -> bool:
    """Say whether the working folder was deleted: every relative path then fails, most of them without a name."""
    try:
        os.getcwd()  # noqa: PTH109 - the same, and it works without any import
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _unwritable(error: UnicodeEncodeError) -> SafetuneError | None:
    """Return a name that this system cannot encode as a mistake of its own; any other text is a bug."""
    part = error.object[error.start : error.end]
    if error.encoding != sys.getfilesystemencoding() and not any("\ud800" <= c <= "\udfff" for c in part):
        return None
    return UsageError(
        f"the name {error.object!r} cannot be written in {error.encoding}", hint="rename the file or folder"
    )


def _usage(error: BaseException) -> SafetuneError | None:
    """Return a mistake on the command line in our words."""
    from typer import Abort, TyperException

    if isinstance(error, Abort):
        return _Interrupted("aborted")
    if not isinstance(error, TyperException):
        return None
    context = getattr(error, "ctx", None)
    message = error.format_message().strip()
    if type(error).__name__ == "NoArgsIsHelpError":
        return UsageError("no command is given", hint="safetune --help")
    return UsageError(
        message[:1].lower() + message[1:], hint=f"{context.command_path if context else 'safetune'} --help"
    )


def _crash(error: BaseException, args: Sequence[str]) -> SafetuneError:
    """Write down a bug and return the one line about it."""
    hint = "please report it with this file; what was recorded in the ledger stays"
    kind = type(error).__name__
    try:
        path = _write_crash(_crash_text(error, args))
    except OSError:
        return _Bug(f"a bug in safetune: {kind}: {error}; no crash file could be written", hint="please report it")
    return _Bug(f"a bug in safetune: {kind}; the details are in {path}", hint=hint)


def _crash_text(error: BaseException, args: Sequence[str]) -> str:
    import platform
    import traceback

    from safetune import __version__
    from safetune.report.untrusted import render_untrusted

    trace = "".join(traceback.format_exception(error)).splitlines()
    head = [
        f"safetune {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"arguments: {list(args)!r}",
        "",
    ]
    return "".join(f"{render_untrusted(line, _LONG)}\n" for line in (*head, *trace))


def _write_crash(text: str) -> Path:
    """Write a new crash file into the working folder or, where that cannot be, into the folder for temporary files."""
    import tempfile

    last: OSError | None = None
    for folder in (".", tempfile.gettempdir()):
        try:
            descriptor, name = tempfile.mkstemp(prefix="safetune-crash-", suffix=".txt", dir=folder)
        except OSError as failure:
            last = failure
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        return Path(name)
    raise last or OSError("no folder")
