"""The `sentiment` guard, opt-in: answers of a strongly negative tone, and their share of the source.

The tone is VADER's (Hutto & Gilbert, ICWSM 2014), as in the `tone` judge: the mean over sentences, from -1 to 1. It
counts words; irony and quotation escape it. English only.
"""

from __future__ import annotations

from collections.abc import Sequence

from safetune.builtin.guards.settings import Options, known, number, whole
from safetune.builtin.guards.sides import answered
from safetune.builtin.judges.tone import ToneJudge, tone
from safetune.protocols import DataRow, Found, GuardSetup

NEGATIVE = "negative"
_THRESHOLD, _SHARE, _LEAST, _READ = -0.5, 0.1, 20, 2000
_CODE_VERSION = 1


class SentimentGuard:
    """Finds answers whose mean tone is `threshold` (-0.5 when not given) or lower.

    Options: `threshold`, from -1 to 0; `share`, the largest share of such answers before the source is found (0.1);
    `rows`, the least number of answers to judge a share by (20).
    """

    name = "sentiment"
    plain = "answers of a strongly negative tone"
    rules: tuple[str, ...] = (NEGATIVE,)
    remembers = True

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("threshold", "share", "rows"))
        self._threshold = number(self.name, given, "threshold", _THRESHOLD, (-1.0, 0.0))
        self._share = number(self.name, given, "share", _SHARE, (0.0, 1.0))
        self._least = whole(self.name, given, "rows", _LEAST, 1)
        self._rows = self._negative = 0
        self.version = f"{_CODE_VERSION}-{ToneJudge().version}"

    def begin(self, setup: GuardSetup) -> None:
        """Count anew: a share is of one source."""
        self._rows = self._negative = 0

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the strongly negative answers; the note has the tone."""
        found = []
        for at, row in enumerate(rows):
            path, answer = answered(row)
            mean = tone(answer[:_READ])
            if mean is None:
                continue
            self._rows += 1
            if mean <= self._threshold:
                self._negative += 1
                found.append(Found(at, NEGATIVE, path, 0, len(answer), note=f"tone {mean:.2f}"))
        return found

    def end(self) -> Sequence[Found]:
        """Return the share of such answers where it is above its limit."""
        if self._rows < self._least or self._negative <= self._share * self._rows:
            return ()
        part = f"{self._negative:,} of {self._rows:,} answers ({self._negative / self._rows:.1%})"
        return [Found(None, NEGATIVE, note=f"{part}; more than {self._share:.1%}")]
