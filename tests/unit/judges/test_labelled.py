"""The labelled sets: how the judge compares with people, and that its card says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetune.builtin.judges import labelled
from safetune.builtin.judges.labelled import LABELLED_SETS, Labelled, LabelledSet, confusion
from safetune.builtin.judges.refusal import REFUSAL, RefusalJudge
from safetune.core.digest import sha256_hex
from safetune.core.errors import IntegrityError, UsageError

ROOT = Path(__file__).resolve().parents[3]
CARD = json.loads(Path(labelled.__file__).with_name("refusal_card.json").read_text("utf-8"))
# What a plain list of refusal phrases reaches on the whole set.
PHRASES = {
    "xstest-gpt4": 0.951,
    "xstest-llama2orig": 0.849,
    "xstest-mistralinstruct": 0.856,
    "gptfuzz": 0.799,
    "pyrit-refusal": 0.705,
}
TABLE = b"a comment\nid,asked,said,label\n1,why?,I can't.,1\n2,how?,Like this.,0\n"


def small(path: Path, data: bytes = TABLE) -> LabelledSet:
    path.write_bytes(data)
    return LabelledSet(
        "small", path.name, sha256_hex(TABLE), "id", "asked", "said", "label", refused=("1",), comment_lines=1
    )


def entries(name: str) -> dict[str, dict[str, Any]]:
    return {e["split"]: e for e in CARD["sets"] if e["set"] == name}


def test_the_card_is_for_the_judge_as_it_is() -> None:
    judge = RefusalJudge()
    assert (CARD["judge"], CARD["version"]) == (judge.name, judge.version), "scripts/judge_accuracy.py --write"
    assert (CARD["language"], CARD["positive"]) == ("en", REFUSAL)


@pytest.mark.parametrize("known", LABELLED_SETS, ids=lambda s: s.name)
def test_the_card_names_each_set_by_digest_with_figures_that_follow_from_its_counts(known: LabelledSet) -> None:
    found = entries(known.name)
    assert set(found) == {"development", "held out", "all"}
    assert found["all"]["n"] == found["development"]["n"] + found["held out"]["n"]
    for entry in found.values():
        hit, miss = entry["true_positive"], entry["false_negative"]
        wrong, right = entry["false_positive"], entry["true_negative"]
        assert entry["sha256"] == known.sha256
        assert entry["n"] == hit + miss + wrong + right
        assert entry["sensitivity"] == round(hit / (hit + miss), 4)
        assert entry["specificity"] == round(right / (right + wrong), 4)
        assert entry["accuracy"] == round((hit + right) / entry["n"], 4)


def test_the_card_beats_a_list_of_phrases_on_every_set() -> None:
    assert [n for n, phrases in PHRASES.items() if entries(n)["all"]["accuracy"] <= phrases] == []


def test_the_documentation_shows_the_figures_of_the_card() -> None:
    shown = (ROOT / "docs/judges.md").read_text("utf-8")
    right = {id(e): (e["true_positive"] + e["true_negative"]) / e["n"] for e in CARD["sets"]}
    lines = [f"| {e['set']} | {e['split']} | {e['n']} | {right[id(e)]:.3f} [" for e in CARD["sets"]]
    assert [line for line in lines if line not in shown] == []


def test_the_card_and_the_documentation_say_how_right_the_judge_is_on_first_words() -> None:
    assert {(e["set"], e["words"]) for e in CARD["cut"]} == {(s.name, n) for s in LABELLED_SETS for n in (24, 64)}
    assert [e["n"] for e in CARD["cut"]] == [entries(e["set"])["held out"]["n"] for e in CARD["cut"]]
    shown = (ROOT / "docs/judges.md").read_text("utf-8")
    lines = [f"| {e['set']} | {e['words']} | {e['accuracy']:.3f} | {e['sensitivity']:.3f} |" for e in CARD["cut"]]
    assert [line for line in lines if line not in shown] == []


def test_the_card_names_the_licence_of_everything_that_was_fitted_on() -> None:
    sources = " ".join(e["set"] for e in CARD["fitted_on"])
    assert [s.name for s in LABELLED_SETS if s.fitted and s.name.partition("-")[0] not in sources] == []
    assert all(e["licence"] for e in CARD["fitted_on"])


def test_the_card_holds_no_text_of_a_row() -> None:
    keys = {key for entry in CARD["sets"] for key in entry}
    assert keys == {"set", "sha256", "split", "n", "accuracy", "sensitivity", "specificity"} | {
        "true_positive",
        "false_negative",
        "false_positive",
        "true_negative",
    }
    assert max(len(v) for e in CARD["sets"] for v in e.values() if isinstance(v, str)) == 64


@pytest.mark.parametrize("known", LABELLED_SETS, ids=lambda s: s.name)
def test_the_judge_is_as_right_as_its_card_says(known: LabelledSet, data_root: Path) -> None:
    rows = known.read(data_root)
    judge = RefusalJudge()
    judged = [judge.label(r.prompt, r.response).label == REFUSAL for r in rows]
    for split, keep in (("all", None), ("development", True), ("held out", False)):
        kept = [(r.refused, j) for r, j in zip(rows, judged, strict=True) if keep in (None, r.development)]
        counts = confusion([k[0] for k in kept], [k[1] for k in kept])
        entry = entries(known.name)[split]
        assert counts.n == entry["n"]
        assert counts.accuracy >= entry["accuracy"] - 0.005


def test_a_set_is_read_by_its_columns(tmp_path: Path) -> None:
    rows = small(tmp_path / "small.csv").read(tmp_path)
    assert rows == (Labelled("1", "why?", "I can't.", True), Labelled("2", "how?", "Like this.", False))
    without = replace(small(tmp_path / "small.csv"), prompt="").read(tmp_path)
    assert [r.prompt for r in without] == ["", ""]


def test_a_set_that_is_not_there_or_has_other_bytes_is_refused(tmp_path: Path) -> None:
    known = small(tmp_path / "small.csv", TABLE + b"3,x,y,1\n")
    with pytest.raises(IntegrityError, match="not the pinned file"):
        known.read(tmp_path)
    with pytest.raises(UsageError, match="is not at"):
        known.read(tmp_path / "elsewhere")


def test_rows_of_one_group_are_on_one_side_and_both_sides_are_used() -> None:
    sides = {Labelled(str(n), "", "", True).development for n in range(20)}
    assert sides == {True, False}
    assert Labelled("a", "", "x", True).development == Labelled("a", "p", "y", False).development


def test_a_confusion_counts_each_kind_and_never_divides_by_nothing() -> None:
    counts = confusion([True, True, False, False, False], [True, False, True, False, False])
    assert (counts.true_positive, counts.false_negative, counts.false_positive, counts.true_negative) == (1, 1, 1, 2)
    assert counts.accuracy == 0.6
    empty = confusion([], [])
    assert (empty.n, empty.accuracy, empty.row["sensitivity"], empty.row["specificity"]) == (0, 0.0, None, None)
    with pytest.raises(ValueError, match="zip"):
        confusion([True], [])
