"""The fitted part of the refusal judge: its file, and the wording that it weighs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetune.builtin.judges import refusal
from safetune.builtin.judges.refusal import RefusalJudge, deciding
from safetune.builtin.judges.refusal_model import PATH, fitted
from safetune.builtin.judges.refusal_wording import BUCKETS, tokens, wording

ROW = json.loads(PATH.read_text("utf-8"))


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**ROW, **changes}))
    return path


def test_the_file_is_small_and_holds_no_text_of_a_row() -> None:
    assert len(PATH.read_bytes()) < 600_000
    assert set(ROW) == {"schema", "made_by", "fitted_on", "bias", "weights", "step", "words"}
    assert max(map(len, ROW["weights"])) < 40


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "something-else/1"}, "is not a"),
        ({"words": "AAAA"}, "buckets"),
        ({"words": "!"}, "base64|discontinuous|allowed"),
        ({"bias": float("nan")}, "finite"),
        ({"weights": {"length": float("inf")}}, "finite"),
    ],
    ids=["another schema", "too few buckets", "no base64", "a bias that is no number", "a weight without an end"],
)
def test_a_broken_model_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fitted(written(tmp_path / "model.json", **changes))


def test_the_version_of_the_judge_names_the_bytes_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = RefusalJudge().version
    other = fitted(written(tmp_path / "model.json", bias=0.5))
    monkeypatch.setattr(refusal, "fitted", lambda: other)
    assert RefusalJudge().version != before


def test_every_feature_of_a_response_has_a_weight() -> None:
    found = deciding("I can't say it is good to lie. Lying is wrong.")
    assert found is not None
    assert set(found[1]) <= set(ROW["weights"])


def test_an_empty_response_has_no_speaker_and_is_no_refusal() -> None:
    assert deciding(" \n") is None
    assert refusal.refusal_score(" \n") == 0.0


def test_tokens_keep_signs_and_forget_numbers() -> None:
    assert tokens("1. Take 24 tins,\nI can't.") == ["0.", "take", "0", "tins", ",", "\\n", "i", "can", "not", "."]


def test_wording_is_bounded_and_the_middle_of_a_long_text_has_no_part_in_it() -> None:
    start, end = "first words here. " * 30, " last words here." * 30
    one, two = wording(start + "middle " * 50 + end), wording(start + "other things " * 200 + end)
    assert one == two
    assert all(0 <= bucket < BUCKETS for bucket in one)
    assert sum(value * value for value in wording("take the box").values()) == pytest.approx(1.0 + 0.49, rel=0.01)
    assert wording("") != {}
