"""Public sets of model responses that people labelled: how to read them, and how right a judge is on them.

The files are never shipped. They are looked for under a data root and must have the pinned digest.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON, sha256_hex
from safetune.core.errors import IntegrityError, UsageError


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled response. `group` holds what must stay on one side of a split; `refused` is the human label."""

    group: str
    prompt: str
    response: str
    refused: bool

    @property
    def development(self) -> bool:
        """Whether this row was on the half that rules and weights were made with: by the digest of its group."""
        return hashlib.sha256(self.group.encode()).digest()[-1] % 2 == 0


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Where a set is and what its columns mean; `fitted` says that the weights were fitted on its development half."""

    name: str
    path: str
    sha256: str
    group: str
    prompt: str
    response: str
    label: str
    refused: tuple[str, ...]
    comment_lines: int = 0
    fitted: bool = True

    def read(self, root: Path) -> tuple[Labelled, ...]:
        """Return all rows.

        Raises:
            UsageError: when the file is not under `root`.
            IntegrityError: when it is not the pinned file.
        """
        try:
            data = (root / self.path).read_bytes()
        except OSError as error:
            raise UsageError(f"the labelled set {self.name} is not at {root / self.path}: {error.strerror}") from error
        if sha256_hex(data) != self.sha256:
            raise IntegrityError(f"{root / self.path} is not the pinned file of the labelled set {self.name}")
        lines = io.StringIO(data.decode("utf-8"), newline="")
        for _ in range(self.comment_lines):
            lines.readline()
        csv.field_size_limit(10_000_000)
        return tuple(
            Labelled(
                row[self.group].strip(),
                row[self.prompt] if self.prompt else "",
                row[self.response],
                row[self.label] in self.refused,
            )
            for row in csv.DictReader(lines)
        )


_XSTEST = ("2_full_refusal", "3_partial_refusal")


def _xstest(model: str, sha256: str) -> LabelledSet:
    path = f"xstest/xstest_v2_completions_{model}.csv"
    return LabelledSet(
        f"xstest-{model}", path, sha256, "prompt", "prompt", "completion", "final_label", refused=_XSTEST
    )


LABELLED_SETS = (
    _xstest("gpt4", "71af323af8ecdec0efae23992317721441d2cfedddedeef3248f842f4e15c9ca"),
    _xstest("llama2orig", "cbc52550e8ba8197a3e3d97a5af078d27bae4766737cd62df80270126a87ffc6"),
    _xstest("mistralinstruct", "6a146b65a5b96ec8249729bc2db459697175125998d7cbbcc88f7688ecf31dad"),
    LabelledSet(
        "gptfuzz",
        "gptfuzz_labelled/train.csv",
        "e25fe2a06d2085af260927164364524628c8b5c1dd1bab1b58ddbd917c3f7cb0",
        "question",
        "",
        "Response",
        "label",
        refused=("0",),
    ),
    LabelledSet(
        "pyrit-refusal",
        "pyrit_refusal/refusal_scorer_refusal.csv",
        "1ebc42ef7dadd97962cc00d04edd6a52a321f7936c063ff3453d2bbcef30a5d7",
        "objective",
        "objective",
        "assistant_response",
        "human_score",
        refused=("1",),
        comment_lines=1,
        fitted=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of a judge against human labels; the positive class is refusal."""

    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int

    @property
    def positives(self) -> int:
        """How many rows people called a refusal."""
        return self.true_positive + self.false_negative

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self.positives + self.false_positive + self.true_negative

    @property
    def accuracy(self) -> float:
        """The share of rows on which judge and people agree; 0 when there are none."""
        return (self.true_positive + self.true_negative) / self.n if self.n else 0.0

    @property
    def row(self) -> dict[str, JSON]:
        """The figures of a calibration card: counts and the rates that they give, rounded to 4 places."""
        negatives = self.n - self.positives
        return {
            "n": self.n,
            "accuracy": round(self.accuracy, 4),
            "sensitivity": round(self.true_positive / self.positives, 4) if self.positives else None,
            "specificity": round(self.true_negative / negatives, 4) if negatives else None,
            "true_positive": self.true_positive,
            "false_negative": self.false_negative,
            "false_positive": self.false_positive,
            "true_negative": self.true_negative,
        }


def confusion(human: Sequence[bool], judged: Iterable[bool]) -> Confusion:
    """Count how `judged` (refused or not) compares with the `human` labels of the same rows.

    Raises:
        ValueError: when the two are not equally long.
    """
    pairs = list(zip(human, judged, strict=True))
    return Confusion(
        true_positive=pairs.count((True, True)),
        false_negative=pairs.count((True, False)),
        false_positive=pairs.count((False, True)),
        true_negative=pairs.count((False, False)),
    )
