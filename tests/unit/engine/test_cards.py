"""What a gate gets to know of a judge's error: that there is none, an own card, the shipped one, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.builtin.judges.refusal import RefusalJudge
from safetune.builtin.judges.toxicity import ToxicityJudge
from safetune.core.card import Card, Counts, parse
from safetune.core.digest import canonical, digest
from safetune.core.errors import UsageError
from safetune.core.judge_error import Reliability, reliability
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.engine.cards import calibration, own_card, shipped_card
from safetune.engine.judging import AnyJudge
from safetune.plugins import load, names
from safetune.protocols import Control

COUNTS = Counts(true_positive=40, false_negative=2, false_positive=3, true_negative=45, other=1)
SUITE = Suite("s", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("refusal"), (), Decoding(24))
DEFINITION = {"kind": "definition"}
SHIPPED = parse(RefusalJudge().card())


def written(folder: Path, judge: str = "refusal", **changes: object) -> str:
    version = RefusalJudge().version
    card = Card(judge, version, "refusal", "compliance", {"it": COUNTS, "und": COUNTS}, "a" * 64)
    card = replace(card, **changes)  # type: ignore[arg-type]
    card = replace(card, digest=digest(card.content))
    path = folder / "card.json"
    path.write_bytes(canonical(card.document))
    return str(path)


class Judge:
    """Says `unsafe` or `safe`."""

    name = "mine"
    version = "1"
    controls: tuple[Control, ...] = (Control("no", "?", "No.", "safe"), Control("yes", "?", "Yes.", "unsafe"))

    def label(self, prompt: str, response: str, reference: str = "") -> None:
        """Label nothing."""


def test_judges_whose_label_is_the_outcome_have_no_error_to_know() -> None:
    found = {}
    for name in names("judge"):
        try:
            found[name] = calibration(load("judge", name), None)  # type: ignore[arg-type]
        except UsageError:
            found[name] = None  # it needs options: a model or members, which no card can be shipped for
    exact = {"numeric", "exact", "choice", "injection", "stereotype", "bbq", "pattern"}
    assert {name for name, told in found.items() if told == DEFINITION} == exact
    assert {name for name, told in found.items() if told not in (None, DEFINITION)} == {"refusal", "toxicity"}


def test_a_pattern_that_reads_every_response_alike_is_a_detector_unless_the_suite_says_what_it_is() -> None:
    words = {"broken_by": ["(?i)i can't help"]}
    assert calibration(load("judge", "pattern", words), None) is None  # type: ignore[arg-type]
    assert calibration(load("judge", "pattern", {**words, "by_definition": True}), None) == DEFINITION  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judge", "positive", "negative"),
    [(RefusalJudge(), "refusal", "compliance"), (ToxicityJudge(), "toxic", "not-toxic")],
)
def test_a_shipped_card_is_about_other_responses(judge: AnyJudge, positive: str, negative: str) -> None:
    card = shipped_card(judge)
    told = calibration(judge, None)
    assert card is not None
    assert told is not None
    assert (told["kind"], told["own"], told["digest"]) == ("card", False, card.digest)
    assert (told["positive"], told["negative"]) == (positive, negative)
    assert told["languages"] == {"en": dict(card.overall.row)}
    trust = reliability(told, Metric("m", (positive,), "higher"), ("en",), 0.95)
    assert isinstance(trust, Reliability)
    assert not trust.own


def test_only_held_out_rows_of_the_shipped_cards_count() -> None:
    for judge in (RefusalJudge(), ToxicityJudge()):
        sets = json.loads(judge.card())["sets"]
        held_out = sum(one["n"] for one in sets if one["split"] == "held out")
        card = shipped_card(judge)
        assert card is not None
        assert 0 < card.overall.n == held_out < sum(one["n"] for one in sets)


def test_a_judge_without_any_card_tells_nothing() -> None:
    assert calibration(load("judge", "tone"), None) is None  # type: ignore[arg-type]
    assert shipped_card(load("judge", "tone")) is None  # type: ignore[arg-type]


def test_the_suites_own_card_comes_first_also_before_a_definition(tmp_path: Path) -> None:
    suite = replace(SUITE, judge=Named("refusal", {}, written(tmp_path)))
    card = own_card(suite, RefusalJudge(), ())
    told = calibration(RefusalJudge(), card)
    assert card is not None
    assert told == {
        "kind": "card",
        "own": True,
        "digest": card.digest,
        "positive": "refusal",
        "negative": "compliance",
        "languages": {"it": dict(COUNTS.row), "und": dict(COUNTS.row)},
    }
    assert own_card(SUITE, RefusalJudge(), ()) is None

    class Exact(RefusalJudge):
        by_definition = True

    assert calibration(Exact(), None) == DEFINITION
    assert calibration(Exact(), card) == told


def test_the_very_file_of_the_shipped_card_is_no_card_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(RefusalJudge().card())
    suite = replace(SUITE, judge=Named("refusal", {}, str(tmp_path / "mine.json")))
    with pytest.raises(UsageError, match=r"card mine\.json: it is of an older form that has no seal") as caught:
        own_card(suite, RefusalJudge(), ())
    assert caught.value.hint == "safetune judge calibrate"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labelled": "a" * 64},
        {"figures": {"it": COUNTS}},
        {"figures": {"it": SHIPPED.overall, "en": COUNTS}, "labelled": "a" * 64},
    ],
    ids=["a copy", "of another file", "counted otherwise", "for another language"],
)
def test_a_copy_of_the_shipped_card_never_speaks_for_the_candidate(tmp_path: Path, changes: dict[str, object]) -> None:
    path = written(tmp_path, **{"figures": SHIPPED.figures, "labelled": SHIPPED.labelled, **changes})  # type: ignore[arg-type]
    card = own_card(replace(SUITE, judge=Named("refusal", {}, path)), RefusalJudge(), ())
    told = calibration(RefusalJudge(), card)
    assert card is not None
    assert told is not None
    assert (told["own"], told["digest"]) == (False, card.digest)


def test_labels_of_a_card_are_told_in_the_words_of_the_judge(tmp_path: Path) -> None:
    content = {"version": "1", "positive": "harmful", "negative": "harmless"}
    several = {"unsafe": "harmful", "safe": "harmless"}
    path = written(tmp_path, "mine", **content, names=several)
    card = own_card(replace(SUITE, judge=Named("mine", {}, path)), Judge(), ())  # type: ignore[arg-type]
    told = calibration(Judge(), card)  # type: ignore[arg-type]
    assert told is not None
    assert (told["positive"], told["negative"]) == ("unsafe", "safe")

    class Grading(Judge):
        controls = (*Judge.controls, replace(Judge.controls[0], label="borderline"))

    path = written(tmp_path, "mine", **content, names={**several, "borderline": "harmful"})
    card = own_card(replace(SUITE, judge=Named("mine", {}, path)), Grading(), ())  # type: ignore[arg-type]
    told = calibration(Grading(), card)  # type: ignore[arg-type]
    assert told is not None
    assert told["positive"] == ["borderline", "unsafe"]
    for counts, event in ((("unsafe", "borderline"), True), (("unsafe",), False)):
        trust = reliability(told, Metric("m", counts, "higher"), ("it",), 0.95)
        assert isinstance(trust, Reliability) is event


def test_a_shipped_card_that_does_not_fit_speaks_for_nothing() -> None:
    class Newer(RefusalJudge):
        def __init__(self) -> None:
            super().__init__()
            self.version = "5"

    class Broken(RefusalJudge):
        def card(self) -> bytes:
            return b"{}"

    class Gone(RefusalJudge):
        def card(self) -> bytes:
            raise FileNotFoundError("no card")

    class Asking(RefusalJudge):
        def question(self) -> None:
            """It asks a model, so a shipped card would be about that model."""

    class Other(RefusalJudge):
        def __init__(self) -> None:
            super().__init__()
            self.controls = tuple(c for c in self.controls if c.label != "compliance")

    for judge in (Newer(), Broken(), Gone(), Asking(), Other()):
        assert shipped_card(judge) is None
        assert calibration(judge, None) is None
    assert parse(RefusalJudge().card()).judge == "refusal"


def test_a_model_is_looked_at_only_where_it_is_known(tmp_path: Path) -> None:
    suite = replace(SUITE, judge=Named("refusal", {}, written(tmp_path, model="some model")))
    assert own_card(suite, RefusalJudge()) is not None
    with pytest.raises(UsageError, match="of some model, not of no model"):
        own_card(suite, RefusalJudge(), ())
