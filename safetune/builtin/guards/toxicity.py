"""The `toxicity` guard, opt-in: texts in which a sentence speaks hatefully of a group of people, by the judge's model.

The model knows the wording of its two training sets and little else: trained on one and tested on the other it is weak,
docs/judges.md says how weak. A finding is a reason to look, and no finding means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from safetune.builtin.guards.settings import Options, known, number, whole
from safetune.builtin.judges.toxicity import features_of, model, pieces, version_with
from safetune.protocols import DataRow, Found, GuardSetup

TOXIC = "toxic"
_THRESHOLD, _READ = 0.9, 2000
_CODE_VERSION = 1


class ToxicityGuard:
    """Finds texts whose worst sentence scores at least `threshold` (0.9 when not given).

    Options: `threshold`, from 0.5 to 1; `read`, how many characters of a text are read (2,000). English only.
    """

    name = "toxicity"
    plain = "hateful sentences, by a small and weak model"
    rules: tuple[str, ...] = (TOXIC,)

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("threshold", "read"))
        self._threshold = number(self.name, given, "threshold", _THRESHOLD, (0.5, 1.0))
        self._read = whole(self.name, given, "read", _READ, 1)
        self.version = f"{_CODE_VERSION}-{version_with(model().sha256)}"

    def begin(self, setup: GuardSetup) -> None:
        """Nothing is kept from row to row."""

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the texts with a toxic sentence; the note has the score."""
        found = []
        for at, row in enumerate(rows):
            for text in row.texts:
                read = text.text[: self._read]
                score = max((model().score(features_of(piece)) for piece in pieces(read)), default=0.0)
                if score >= self._threshold:
                    found.append(Found(at, TOXIC, text.path, 0, len(text.text), note=f"score {score:.2f}"))
        return found

    def end(self) -> Sequence[Found]:
        """Nothing is said of the source as a whole."""
        return ()
