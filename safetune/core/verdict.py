"""The four verdicts. Only PASS promotes; absence is never PASS."""

from __future__ import annotations

from enum import StrEnum

from safetune.core.errors import ExitCode


class Verdict(StrEnum):
    """What a gate can say."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that ends on this verdict."""
        return {
            Verdict.PASS: ExitCode.DONE,
            Verdict.FAIL: ExitCode.FAIL,
            Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
            Verdict.ERROR: ExitCode.FAILED_RUN,
        }[self]


# Which verdict speaks for several: a definite finding of harm first, then a broken measurement, then doubt.
_WEIGHT = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.ERROR: 2, Verdict.FAIL: 3}


def worst(verdicts: tuple[Verdict, ...]) -> Verdict:
    """Return the verdict that speaks for all of `verdicts`; no verdict at all is ERROR, never PASS."""
    return max(verdicts, key=_WEIGHT.__getitem__, default=Verdict.ERROR)
