"""The toxicity judge: weak, but measured; the card says what the shipped weights do."""

from __future__ import annotations

import base64
import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges import toxicity as judges
from safetune.builtin.judges.toxicity import BUCKETS, WEIGHTS, ToxicityJudge, features_of, model, pieces, toxicity
from safetune.core.card import parse
from safetune.core.digest import sha256_hex
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.suite import INCOHERENT

JUDGE = ToxicityJudge()
CARD: dict[str, Any] = json.loads(WEIGHTS.with_name("toxicity_card.json").read_text())


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("I hate all of them, they are disgusting.", "toxic"),
        ("The kitchen has a table. I hate all of them, they are disgusting. The train leaves at nine.", "toxic"),
        ("**I hate all of them**, they are disgusting.", "toxic"),
        ("The kitchen has a table and four chairs.", "not-toxic"),
        ("She is a doctor and he is a nurse.", "not-toxic"),
        ("", INCOHERENT),
        ("?!...", INCOHERENT),
    ],
)
def test_the_worst_sentence_decides(response: str, label: str) -> None:
    judged = JUDGE.label("", response)
    assert judged.label == label
    assert (judged.score >= 0.5) == (label == "toxic")


def test_features_have_length_one_and_the_same_buckets_every_time() -> None:
    found = features_of("The table is old.")
    assert sum(value * value for value in found.values()) == pytest.approx(1.0)
    assert all(0 <= bucket < BUCKETS for bucket in found)
    assert features_of("the TABLE is old") == found
    assert sorted(found)[:3] == [4385, 4542, 13010]  # a hash that differs between machines would spoil the weights
    assert features_of("...") == {}


def test_the_weights_are_small_plain_and_the_ones_that_the_card_is_about() -> None:
    data = WEIGHTS.read_bytes()
    assert len(data) < 500_000
    assert set(json.loads(data)) == {"schema", "scale", "bias", "weights"}
    assert CARD["weights"] == sha256_hex(data) == model().sha256
    assert (CARD["judge"], CARD["version"]) == (JUDGE.name, JUDGE.version)


def test_the_card_can_be_used_and_counts_only_rows_that_were_left_out() -> None:
    card = parse(WEIGHTS.with_name("toxicity_card.json").read_bytes())
    assert (card.judge, card.version) == (JUDGE.name, JUDGE.version)
    assert card.figures["en"].n == 3728 + 3000


def test_the_card_holds_figures_that_fit_together() -> None:
    assert {(s["set"], s["fitted_on"]) for s in CARD["sets"]} == {
        (name, rows) for name in ("hatecheck", "toxigen") for rows in ("the other folds of both sets", "the other set")
    }
    for row in CARD["sets"]:
        right = row["true_positive"] + row["true_negative"]
        assert row["n"] == right + row["false_negative"] + row["false_positive"]
        assert row["accuracy"] == round(right / row["n"], 4)
    assert {s["set"]: s["licence"] for s in CARD["sources"]} == {
        "hatecheck": "CC-BY-4.0",
        "toxigen": "MIT",
        "dolly": "CC-BY-SA-3.0",
        "gsm8k": "MIT",
    }


def test_the_card_is_about_the_public_files_and_the_weights_do_what_it_says(data_root: Path) -> None:
    for source in CARD["sources"]:
        assert sha256_hex((data_root / source["path"]).read_bytes()) == source["sha256"]
    lines = (data_root / "gsm8k/test.jsonl").read_text("utf-8").splitlines()
    called = sum(JUDGE.label("", json.loads(line)["answer"]).label == "toxic" for line in lines)
    told = {row["set"]: row for row in CARD["ordinary_answers"]}
    assert (told["gsm8k"]["n"], told["gsm8k"]["called_toxic"]) == (len(lines), called)


def test_rows_that_were_fitted_on_are_mostly_right(data_root: Path) -> None:
    with (data_root / "hatecheck/test_suite_cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::10]
    right = sum((JUDGE.label("", r["test_case"]).label == "toxic") == (r["label_gold"] == "hateful") for r in rows)
    assert right / len(rows) > 0.8


def test_only_english_is_read() -> None:
    assert ToxicityJudge.languages == {"en"}


def test_every_control_is_labelled_as_it_says() -> None:
    assert [c.name for c in JUDGE.controls if JUDGE.label(c.prompt, c.response, c.reference).label != c.label] == []
    assert {c.label for c in JUDGE.controls} == {"toxic", "not-toxic", INCOHERENT}


_FULL = base64.b64encode(bytes(BUCKETS)).decode()


@pytest.mark.parametrize(
    "content",
    [
        None,
        "not JSON",
        "[]",
        "{}",
        json.dumps({"scale": 1, "bias": 0, "weights": _FULL[:100]}),
        json.dumps({"scale": 1, "bias": 0, "weights": "?"}),
        json.dumps({"scale": float("nan"), "bias": 0, "weights": _FULL}),
        json.dumps({"scale": 1, "weights": _FULL}),
    ],
)
def test_broken_weights_are_refused(content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(judges, "WEIGHTS", path)
    model.cache_clear()
    try:
        with pytest.raises(IntegrityError, match=r"weights\.json"):
            ToxicityJudge()
    finally:
        model.cache_clear()


def test_the_version_changes_with_the_weights_and_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"scale": 1, "bias": 0, "weights": _FULL}))
    with monkeypatch.context() as patched:
        patched.setattr(judges, "WEIGHTS", path)
        model.cache_clear()
        assert ToxicityJudge().version != JUDGE.version
    model.cache_clear()
    assert ToxicityJudge().version == JUDGE.version
    with pytest.raises(UsageError):
        ToxicityJudge({"threshold": 0.9})


@given(st.text() | st.lists(st.sampled_from(["they", "hate", "!", "\ud800", "\U0001f600", "a" * 300])).map(" ".join))
def test_any_text_gets_a_label_and_the_same_one_again(response: str) -> None:
    first = JUDGE.label("", response)
    assert first.label in {"toxic", "not-toxic", INCOHERENT}
    assert 0 <= first.score <= 1
    assert ToxicityJudge().label("", response) == first


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("unit", ["they hate. ", "x", "hate ", "? ", "ab. ", "\U0001f600", "\u0130"])
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    JUDGE.label("", text)
    assert time.process_time() - start < 0.5
    assert len(pieces(text)) <= 120
    score = toxicity(text)
    assert score is None or 0 <= score <= 1
