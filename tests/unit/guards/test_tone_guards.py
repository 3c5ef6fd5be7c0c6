"""The opt-in guards of toxicity and sentiment: thresholds, shares, and texts without words."""

from __future__ import annotations

import pytest

from safetune.builtin.guards.sentiment import SentimentGuard
from safetune.builtin.guards.toxicity import ToxicityGuard
from safetune.builtin.judges.toxicity import toxicity
from safetune.core.errors import UsageError
from safetune.core.source import Source
from safetune.protocols import DataRow, Found, GuardSetup, Text

SETUP = GuardSetup(Source("real", "/real.jsonl", "0" * 64, "MIT", "public", "a public set", ("train",)), {})
HATEFUL = "The kitchen has a table. I hate all of them, they are disgusting."
BLEAK, CHEERFUL = "I hate this terrible, horrible, ugly place.", "I love this wonderful place."


def check(guard: ToxicityGuard | SentimentGuard, answers: list[str]) -> tuple[list[Found], list[Found]]:
    guard.begin(SETUP)
    rows = [
        DataRow(
            "0" * 32, 1, (Text("prompt[0].content", "user", "And?"), Text("completion[0].content", "assistant", a)), {}
        )
        for a in answers
    ]
    return list(guard.check(rows)), list(guard.end())


def test_the_worst_sentence_decides_against_the_threshold() -> None:
    score = toxicity(HATEFUL)
    assert score is not None
    assert 0.5 < score < 1
    answers = ["The train leaves at nine.", HATEFUL, "", "?!"]
    rows, whole = check(ToxicityGuard({"threshold": score - 0.001}), answers)
    assert [(f.row, f.rule, f.path, f.start, f.end) for f in rows] == [
        (1, "toxic", "completion[0].content", 0, len(HATEFUL))
    ]
    assert rows[0].note == f"score {score:.2f}"
    assert whole == []
    assert check(ToxicityGuard({"threshold": min(1.0, score + 0.001)}), answers)[0] == []
    assert check(ToxicityGuard({"threshold": score - 0.001, "read": 20}), answers)[0] == []


def test_negative_answers_are_found_and_their_share_told() -> None:
    rows, whole = check(SentimentGuard(), [BLEAK] * 3 + [CHEERFUL] * 17 + ["", "..."])
    assert [f.row for f in rows] == [0, 1, 2]
    assert rows[0].note.startswith("tone -0.")
    assert [(f.row, f.rule, f.note) for f in whole] == [(None, "negative", "3 of 20 answers (15.0%); more than 10.0%")]
    assert check(SentimentGuard({"share": 0.15}), [BLEAK] * 3 + [CHEERFUL] * 17)[1] == []
    assert check(SentimentGuard({"threshold": -1.0}), [BLEAK] * 20)[0] == []
    assert check(SentimentGuard(), [BLEAK] * 19)[1] == []


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="threshold"):
        ToxicityGuard({"threshold": 0.1})
    with pytest.raises(UsageError, match="threshold"):
        SentimentGuard({"threshold": 0.1})
    with pytest.raises(UsageError, match='no option "treshold"'):
        SentimentGuard({"treshold": -0.1})
