"""Every error a person can meet, and the one table of exit codes.

SafetuneError
  UsageError            2   the command line or an argument is wrong
    PlaybookError       2   the playbook is wrong (carries all diagnostics at once)
  NotPermitted          4   the alpha budget is spent, or an approval is missing
  IntegrityError        5   stored bytes are not what the ledger says
  StalePlanError        5   the world is not the one the plan was made for
  RunError              6   training, evaluation or launch failed
    MachineError        6   the machine refused: disk full, read-only, permission
  InterruptedRun      130   stopped by a person or a scheduler
"""

from __future__ import annotations

from enum import IntEnum

from safetune.core.diagnostics import Diagnostic


class ExitCode(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    BUG = 1
    USAGE = 2
    FAIL = 3
    INCONCLUSIVE = 4
    STALE = 5
    FAILED_RUN = 6
    ROLLED_BACK = 7
    CHANGES = 10
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "done, or the gate said PASS",
    ExitCode.BUG: "a bug in safetune (a crash file was written)",
    ExitCode.USAGE: "usage or playbook error",
    ExitCode.FAIL: "gate FAIL",
    ExitCode.INCONCLUSIVE: "gate INCONCLUSIVE, alpha budget spent or approval missing",
    ExitCode.STALE: "stale plan or evidence",
    ExitCode.FAILED_RUN: "training, evaluation or launch failed (a gate ERROR included)",
    ExitCode.ROLLED_BACK: "rolled back automatically",
    ExitCode.CHANGES: "changes (only plan --detailed-exitcode)",
    ExitCode.INTERRUPTED: "interrupted",
}


class SafetuneError(Exception):
    """An error with a message for a person and the next thing to do."""

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SafetuneError):
    """The command line, an option or a name is wrong."""


class PlaybookError(UsageError):
    """A playbook, or a file that it builds on, is wrong; `diagnostics` holds every mistake, in file order."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        count = len(diagnostics)
        first = diagnostics[0]
        number = "1 mistake" if count == 1 else f"{count} mistakes, the first"
        super().__init__(f"{number} at {first.where}: {first.message}", hint=first.hint)
        self.diagnostics = diagnostics


class NotPermitted(SafetuneError):
    """Nothing is wrong, but it may not be done yet: the alpha budget is spent, or an approval is missing."""

    exit_code = ExitCode.INCONCLUSIVE


class IntegrityError(SafetuneError):
    """Stored bytes are missing or are not what was recorded."""

    exit_code = ExitCode.STALE


class StalePlanError(SafetuneError):
    """A saved plan no longer describes the world; `changes` says what differs."""

    exit_code = ExitCode.STALE

    def __init__(self, message: str, *, changes: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.changes = changes


class RunError(SafetuneError):
    """Training, evaluation or a launch failed."""

    exit_code = ExitCode.FAILED_RUN


class MachineError(RunError):
    """The machine refused: no space, read-only file system, missing permission."""


class InterruptedRun(SafetuneError):
    """A person or a scheduler stopped the run; running the same command again continues it."""

    exit_code = ExitCode.INTERRUPTED


def reason_of(error: Exception) -> str:
    """Return why a file cannot be used in plain words, without the codes and positions of a library.

    Of an error of the system what it says, of JSON that cannot be read the line.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    line = getattr(error, "lineno", None)
    if isinstance(error, ValueError) and isinstance(line, int):
        return f"line {line} is not JSON"
    return str(error) or type(error).__name__
