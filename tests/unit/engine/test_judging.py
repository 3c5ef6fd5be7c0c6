"""Judging many responses: plain judges, judges that ask, panels; controls, doubts and duplicates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from safetune.core.agreement import COHEN
from safetune.core.evidence import Judgement
from safetune.core.suite import UNJUDGED
from safetune.engine.judging import Case, Respond, label_all, question_request, respondents
from safetune.engine.responses import Request
from safetune.protocols import AskingJudge, Control, Judge, Question, Respondent

CONTROLS = (Control("good", "p", "fine", "good"), Control("bad", "p", "awful", "bad"))
FOLDER = Respondent("folder", "/models/guard")


@dataclass
class Words:
    """A judge that knows good words; it counts what it was asked to label."""

    name: str = "words"
    version: str = "1"
    controls: tuple[Control, ...] = CONTROLS
    good: tuple[str, ...] = ("fine",)
    score: float = 1.0
    seen: list[Case] = field(default_factory=list)

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        self.seen.append((prompt, response, reference))
        return Judgement("good" if response in self.good else "bad", self.score)


@dataclass
class Asks:
    """A judge that passes the response on and reads yes or no."""

    name: str = "asks"
    version: str = "1"
    controls: tuple[Control, ...] = CONTROLS
    respondent: Respondent = FOLDER

    def question(self, prompt: str, response: str, reference: str = "") -> Question:
        return Question(f"Is {response!r} fine?", 4, "none")

    def read(self, answer: str) -> Judgement:
        if answer not in ("yes", "no"):
            raise ValueError(answer)
        return Judgement("good" if answer == "yes" else "bad", float(answer == "no"))


@dataclass
class Panel:
    """All members must agree."""

    members: tuple[Judge | AskingJudge, ...]
    name: str = "panel"
    version: str = "1"
    controls: tuple[Control, ...] = ()

    def combine(self, said: Sequence[Judgement]) -> Judgement:
        labels = {judgement.label for judgement in said}
        return Judgement(labels.pop() if len(labels) == 1 else "unsure", 0.5)


@dataclass
class Model:
    """What is asked: it finds only `fine` fine, except for what `answers` says."""

    answers: Mapping[str, str | None] = field(default_factory=dict)
    asked: list[tuple[Respondent, tuple[Request, ...]]] = field(default_factory=list)

    def __call__(self, respondent: Respondent, requests: Sequence[Request]) -> Mapping[str, str]:
        self.asked.append((respondent, tuple(requests)))
        found = {}
        for one in requests:
            text = one.prompt.removeprefix("Is '").removesuffix("' fine?")
            answer = self.answers.get(text, "yes" if text == "fine" else "no")
            if answer is not None:
                found[one.digest] = answer
        return found


def nobody(respondent: Respondent, requests: Sequence[Request]) -> Mapping[str, str]:
    raise AssertionError("a judge that labels by itself asks nobody")


CASES: tuple[Case, ...] = (("p", "fine", ""), ("p", "odd", ""), ("q", "fine", ""), ("p", "odd", ""))


def labels(judge: Judge | AskingJudge | Panel, respond: Respond, cases: Sequence[Case] = CASES) -> list[str]:
    return [judgement.label for judgement in label_all(judge, cases, respond).judgements]


# -- each kind ---------------------------------------------------------------------------------------------------------


def test_a_plain_judge_labels_every_case_in_order_and_equal_ones_once() -> None:
    judge = Words()
    assert labels(judge, nobody) == ["good", "bad", "good", "bad"]
    assert len(judge.seen) == len(set(judge.seen)) == 4  # three distinct cases, one of them a control too, and one more


def test_an_asking_judge_asks_once_for_equal_questions_with_its_controls_among_them() -> None:
    model = Model()
    found = label_all(Asks(), CASES, model)
    assert [judgement.label for judgement in found.judgements] == ["good", "bad", "good", "bad"]
    ((respondent, requests),) = model.asked
    assert respondent == FOLDER
    assert sorted(one.prompt for one in requests) == ["Is 'awful' fine?", "Is 'fine' fine?", "Is 'odd' fine?"]
    assert (found.controls, found.failed, found.unreadable, found.agreement) == (("good", "bad"), (), 0, None)


@pytest.mark.parametrize("answer", [None, "", "perhaps", "yes yes"])
def test_a_missing_or_unreadable_answer_is_unjudged_and_never_another_label(answer: str | None) -> None:
    found = label_all(Asks(), CASES, Model({"odd": answer}))
    assert [judgement.label for judgement in found.judgements] == ["good", UNJUDGED, "good", UNJUDGED]
    assert found.judgements[1] == Judgement(UNJUDGED, 0.0)
    assert (found.unreadable, found.failed) == (1, ())


def test_a_model_that_answers_nothing_readable_fails_every_control() -> None:
    found = label_all(Asks(), CASES, lambda respondent, requests: {one.digest: "?" for one in requests})
    assert {judgement.label for judgement in found.judgements} == {UNJUDGED}
    assert found.failed == ("good", "bad")


def test_a_control_that_is_labelled_wrongly_is_named() -> None:
    assert label_all(Words(good=("fine", "awful")), CASES, nobody).failed == ("bad",)
    assert label_all(Asks(), CASES, Model({"fine": "no"})).failed == ("good",)


def test_no_cases_still_run_the_controls() -> None:
    assert label_all(Asks(), (), Model({"fine": "no"})).failed == ("good",)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_a_score_that_no_gate_could_use_breaks_the_judge(score: float) -> None:
    with pytest.raises(ValueError, match="not a number in"):
        label_all(Words(score=score), CASES, nobody)


def test_a_judge_that_gives_no_label_is_broken() -> None:
    class Silent(Words):
        def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
            return Judgement("", 0.0)

    with pytest.raises(ValueError, match="no label"):
        label_all(Silent(), CASES, nobody)


# -- panels ------------------------------------------------------------------------------------------------------------


def test_members_of_either_kind_label_together() -> None:
    found = label_all(Panel((Words(), Asks())), CASES, Model({"odd": "yes"}))
    assert [judgement.label for judgement in found.judgements] == ["good", "unsure", "good", "unsure"]
    agreement = found.agreement
    assert agreement is not None
    # Distinct cases: (p, fine), (p, odd), (q, fine); the members differ on the second.
    assert (agreement.statistic, agreement.n) == (COHEN, 3)
    assert agreement.observed == pytest.approx(2 / 3)
    assert found.controls == ("good", "bad", "good", "bad")


def test_a_wrong_control_of_one_member_fails_the_panel() -> None:
    found = label_all(Panel((Words(), Asks())), CASES, Model({"awful": "yes"}))
    assert found.failed == ("asks/bad",)
    twice = label_all(Panel((Asks(), Asks())), CASES, Model({"awful": "?"}))
    assert twice.failed == ("asks 1/bad", "asks 2/bad")
    assert twice.unreadable == 2


def test_a_panels_own_controls_are_labelled_by_the_whole_panel() -> None:
    own = (Control("both", "p", "fine", "good"), Control("doubt", "p", "odd", "bad"))
    found = label_all(Panel((Words(), Asks()), controls=own), CASES, Model({"odd": "yes"}))
    assert found.failed == ("doubt",)
    assert found.controls[:2] == ("good", "bad")


def test_what_a_member_could_not_label_is_left_out_of_the_agreement() -> None:
    found = label_all(Panel((Words(), Asks())), CASES, Model({"odd": None}))
    assert found.agreement is not None
    assert (found.agreement.n, found.agreement.left_out, found.agreement.kappa) == (2, 1, None)
    assert found.judgements[1].label == "unsure"


def test_the_models_that_are_asked_are_named_once() -> None:
    other = Respondent("hub", "a/b", revision="c")
    assert respondents(Words()) == ()
    assert respondents(Asks()) == (FOLDER,)
    assert respondents(Panel((Asks(), Words(), Asks(respondent=other), Asks()))) == (FOLDER, other)


# -- questions as requests ---------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Question, Callable[[bytes], bool]]] = {
    "bare text": (Question("a", 4, "none"), lambda row: b'"template":"none"' in row and b'"system":null' in row),
    "a user message": (Question("a", 4), lambda row: b"template" not in row and b'"system":null' in row),
    "with a system message": (Question("a", 4, system="s"), lambda row: b'"system":"s"' in row),
    "with an empty system message": (Question("a", 4, system=""), lambda row: b'"system":""' in row),
}


@pytest.mark.parametrize(("question", "holds"), ROWS.values(), ids=ROWS.keys())
def test_a_question_becomes_a_row_of_the_worker(question: Question, holds: Callable[[bytes], bool]) -> None:
    assert holds(question_request(question).row)
    assert len({question_request(question).digest for question, _ in ROWS.values()}) == len(ROWS)
