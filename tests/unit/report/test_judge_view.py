"""What `safetune judge` shows: figures, undefined ones, and text that somebody else wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from safetune.core.agreement import COHEN, FLEISS, Agreement
from safetune.core.card import Card, Counts
from safetune.core.evidence import Judgement
from safetune.engine.calibrate import Calibration, JudgeInfo, Labels, Row
from safetune.engine.judging import Labelled
from safetune.report.json_view import json_text
from safetune.report.judge import calibrate_json, calibrate_lines, label_json, label_lines, list_lines

Find = Callable[[str], object]

EN = Counts(true_positive=40, false_negative=10, false_positive=5, true_negative=45, other=3)
CARD = Card("refusal", "3-abc", "refusal", "compliance", {"en": EN, "und": Counts(1, 0, 0, 0)}, "f" * 64)


def shown(found: Calibration) -> str:
    return "\n".join(calibrate_lines(found))


def test_figures_stand_by_language_and_together() -> None:
    text = shown(Calibration(replace(CARD, digest="d1ge57"), "card.json", repeated=2, unreadable=4))
    assert "101 rows, positive refusal" in text
    assert "en        100  85.0% [76.5%, 91.4%] n=100  80.0% [66.3%, 90.0%] n=50  90.0% [78.2%, 96.7%] n=50  3" in text
    assert "und         1  100.0% [2.5%, 100.0%] n=1   100.0% [2.5%, 100.0%] n=1  -" in text
    assert "all       101" in text
    assert "left out     2 rows that repeat an earlier one" in text
    assert "unreadable   4 answers of the asked model" in text
    assert "speaks for   en" in text
    assert "card         card.json, digest d1ge57" in text


def test_an_undefined_kappa_is_not_a_number() -> None:
    none = Calibration(CARD, "", agreement=Agreement(FLEISS, None, 1.0, 7, 3))
    assert "Fleiss' kappa undefined, 100.0% of pairs agree, n=7" in shown(none)
    some = replace(none, agreement=Agreement(COHEN, 0.4567, 0.8, 7, 2, 5))
    assert "Cohen's kappa 0.457, 80.0% of pairs agree, n=7, 5 left out" in shown(some)
    assert json.loads(json_text(calibrate_json(none)))["agreement"]["kappa"] is None


def test_a_card_that_speaks_for_no_language_says_what_is_lacking() -> None:
    few = replace(CARD, figures={"en": Counts(29, 0, 0, 40)})
    assert "no language: each needs 30 rows or more of refusal and of compliance" in shown(Calibration(few, ""))
    assert "sensitivity and specificity both shown to be above 50%" in shown(Calibration(few, ""))
    assert "--language" in shown(Calibration(replace(few, figures={"und": EN}), ""))


def test_nothing_that_somebody_else_wrote_reaches_a_terminal_raw(
    hostile: Sequence[str], controls_in: Callable[[str], object]
) -> None:
    for text in hostile:
        card = replace(CARD, judge=text, version=text, positive=text, negative=text, figures={text: EN})
        said = Labelled((Judgement(text, 0.5),), (text,), (text,))
        labels = Labels(text, text, (Row(1, text, text),), said)
        judges = [JudgeInfo(text, text, (text,) * 6, (text,), text), JudgeInfo(text, needs=text)]
        lines = [*calibrate_lines(Calibration(card, text)), *label_lines(labels), *list_lines(judges)]
        assert not any(controls_in(line) for line in lines)
        if any("\ud800" <= c <= "\udfff" for c in text):
            continue  # no digest can be made of it, so no card either
        for document in (calibrate_json(Calibration(card, text)), label_json(labels)):
            assert not controls_in(json_text(document).replace("\n", ""))
