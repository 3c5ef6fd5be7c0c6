"""A judge held against labels of people: figures, cards, what is refused and where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.card import Counts, parse
from safetune.core.digest import JSON, sha256_hex
from safetune.core.errors import RunError, UsageError
from safetune.engine import calibrate as room
from safetune.engine.calibrate import Calibration, Terms, Trial, calibrate, judges, label, read_options, read_rows
from safetune.plugins import load

NO = "I'm sorry, but I can't help with that."
YES = "Put it into boiling water for eight minutes, then cool it under the tap."


def row(response: str, label: str = "", **more: Any) -> dict[str, Any]:
    return {"prompt": "How do I boil an egg?", "response": response, **({"label": label} if label else {}), **more}


def many(count: int, response: str, label: str, **more: Any) -> list[dict[str, Any]]:
    return [{**row(response, label, **more), "prompt": f"How do I boil {n} eggs?"} for n in range(count)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Bench:
    """Writes labelled files and calibrates on them."""

    def __init__(self, root: Path) -> None:
        self.file, self.card, self.store = root / "labelled.jsonl", root / "card.json", root / "store"

    def write(self, rows: Sequence[Mapping[str, Any]] | str) -> Path:
        text = rows if isinstance(rows, str) else "".join(json.dumps(one) + "\n" for one in rows)
        self.file.write_text(text)
        return self.file

    def trial(self, judge: str = "refusal", options: Mapping[str, JSON] | None = None) -> Trial:
        return Trial(judge, options or {}, self.file, self.store)

    def run(self, rows: Sequence[Mapping[str, Any]] | str, terms: Terms | None = None, **trial: Any) -> Calibration:
        self.write(rows)
        return calibrate(self.trial(**trial), terms or Terms(), self.card, lambda progress: None)


# -- figures and cards -------------------------------------------------------------------------------------------------


def test_figures_are_counted_by_language(bench: Bench) -> None:
    rows = [
        *many(3, NO, "refusal", language="en"),
        *many(1, YES, "refusal", language="de"),
        *many(2, f"{YES} Enjoy.", "compliance", language="en"),
        *many(1, f"{NO} Really.", "compliance", language="fr"),
        row("...", "compliance"),
        row("!!!", "refusal"),
    ]
    found = bench.run(rows)
    assert found.card.figures == {
        "en": Counts(3, 0, 0, 2),
        "de": Counts(0, 1, 0, 0),
        "fr": Counts(0, 0, 1, 0),
        "und": Counts(0, 1, 1, 0, 2),
    }


def test_the_card_names_judge_version_and_file_and_can_be_read_back(bench: Bench) -> None:
    rows = [*many(30, NO, "refusal", language="en"), *many(30, YES, "compliance", language="en")]
    found = bench.run(rows)
    card = parse(bench.card.read_bytes())
    judge: Any = load("judge", "refusal")
    assert (card.judge, card.version, card.model) == ("refusal", judge.version, "")
    assert (card.positive, card.negative) == ("refusal", "compliance")
    assert card.labelled == sha256_hex(bench.file.read_bytes())
    assert card.languages() == {"en"}
    assert card.problem("refusal", judge.version) == ""
    assert found.written == str(bench.card)
    assert not bench.store.exists()  # no model was asked


def test_a_language_can_be_said_for_rows_that_name_none(bench: Bench) -> None:
    rows = [*many(30, NO, "refusal"), *many(29, YES, "compliance"), row(YES, "compliance", language="de")]
    assert bench.run(rows, Terms(language="en")).card.figures == {"en": Counts(30, 0, 0, 29), "de": Counts(0, 0, 0, 1)}


def test_labels_of_the_judge_can_be_said_in_the_words_of_the_file(bench: Bench) -> None:
    rows = [row(NO, "harmless"), row(YES, "harmful")]
    terms = Terms({"refusal": "harmless", "compliance": "harmful"})
    found = bench.run(rows, terms)
    assert found.card.figures == {"und": Counts(1, 0, 0, 1)}
    assert (found.card.positive, parse(bench.card.read_bytes()).names) == ("harmful", terms.names)


def test_a_row_that_repeats_another_counts_once(bench: Bench) -> None:
    found = bench.run([row(NO, "refusal"), row(YES, "compliance"), row(NO, "refusal")])
    assert (found.card.overall.n, found.repeated) == (2, 1)


def test_without_out_nothing_is_written(bench: Bench) -> None:
    bench.write([row(NO, "refusal")])
    found = calibrate(bench.trial(), Terms(), None, lambda progress: None)
    assert (found.written, bench.card.exists()) == ("", False)


def test_an_older_card_is_replaced_and_any_other_file_is_not(bench: Bench) -> None:
    first = bench.run([row(NO, "refusal")]).card
    assert bench.run([row(YES, "compliance")]).card != first
    bench.card.write_text("my notes")
    with pytest.raises(UsageError, match="no calibration card; nothing was written"):
        bench.run([row(NO, "refusal")])
    assert bench.card.read_text() == "my notes"


def test_a_panel_tells_how_far_its_members_agree(bench: Bench) -> None:
    found = bench.run(
        [row(NO, "refusal"), row(YES, "compliance")], options={"members": ["refusal", "refusal"]}, judge="panel"
    )
    assert found.agreement is not None
    assert (found.agreement.kappa, found.agreement.n) == (1.0, 2)


def test_a_judge_that_mislabels_its_controls_gets_no_card(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    judge: Any = load("judge", "refusal")
    judge.controls = (*judge.controls, judge.controls[0].__class__("planted", "Why?", YES, "refusal"))
    monkeypatch.setattr(room, "load", lambda kind, name, options=None: judge)
    with pytest.raises(RunError, match="mislabelled its controls: planted"):
        bench.run([row(NO, "refusal")])
    assert not bench.card.exists()


# -- what is refused ---------------------------------------------------------------------------------------------------

GOOD = json.dumps(row(NO, "refusal"))
WRONG: dict[str, tuple[str, str]] = {
    "not JSON": (f"{GOOD}\n{{", "labelled.jsonl:2: this is not JSON"),
    "nested too deeply": (f"{GOOD}\n{'[' * 100_000}", "labelled.jsonl:2: this is not JSON"),
    "not an object": (f"{GOOD}\n\n[1]", "labelled.jsonl:3: this is not a JSON object"),
    "no prompt": ('{"response": "a", "label": "refusal"}', "labelled.jsonl:1: `prompt` is missing"),
    "a response that is no text": ('{"prompt": "a", "response": 1, "label": "refusal"}', "1: `response` is no text"),
    "a response that is null": ('{"prompt": "a", "response": null, "label": "refusal"}', "1: `response` is no text"),
    "half a surrogate pair": ('{"prompt": "a", "response": "\\ud800", "label": "refusal"}', "`response` is no text"),
    "no label": (json.dumps(row(NO)), "labelled.jsonl:1: `label` is missing"),
    "another label": (
        json.dumps(row(NO, "Refusal")),
        '1: the label is "Refusal", not refusal or compliance; harmful or',
    ),
    "labels of both pairs": (
        f"{GOOD}\n{json.dumps(row(YES, 'harmful'))}",
        'labelled.jsonl:2: the label is "harmful", not refusal or compliance',
    ),
    "two labels for one response": (
        f"{GOOD}\n{json.dumps(row(NO, 'compliance'))}",
        'labelled.jsonl:2: labelled "compliance", and line 1 labels the same "refusal"',
    ),
    "a language that is none": (json.dumps(row(NO, "refusal", language="English")), "1: 'English' is no language"),
    "an empty file": ("\n \n", "labelled.jsonl has no rows"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_row_that_cannot_be_used_is_named_with_its_line(bench: Bench, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        bench.run(text)
    assert message in caught.value.message
    assert caught.value.hint
    assert not bench.card.exists()


def test_bytes_that_are_no_text_are_named_with_their_line() -> None:
    with pytest.raises(UsageError, match="x:2: this is not JSON"):
        read_rows("x", GOOD.encode() + b"\n\xff\xfe", labelled=True)


def test_a_file_that_is_not_there_is_one_message(bench: Bench) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        calibrate(bench.trial(), Terms(), None, lambda progress: None)


@pytest.mark.parametrize(
    ("judge", "names", "message"),
    [
        ("numeric", {}, "never says refusal or compliance; judge numeric gives correct, wrong"),
        ("refusal", {"refusal": "safe"}, 'the file has no label "safe"'),
        ("refusal", {"refused": "refusal"}, 'gives no label "refused"'),
        ("refusal", {"compliance": "refusal"}, "never says compliance"),
    ],
)
def test_labels_that_do_not_belong_together_are_refused(
    bench: Bench, judge: str, names: Mapping[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bench.run([row(NO, "refusal")], Terms(names), judge=judge)


@pytest.mark.parametrize(
    ("judge", "options", "message"),
    [
        ("refusall", {}, "did you mean"),
        ("refusal", {"strict": True}, "strict"),
        ("llama-guard", {}, "needs the option model"),
    ],
)
def test_a_judge_that_cannot_be_made_is_refused(
    bench: Bench, judge: str, options: Mapping[str, JSON], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bench.run([row(NO, "refusal")], judge=judge, options=options)


@pytest.mark.parametrize("language", ["eng", "EN", "e", "English"])
def test_a_language_is_two_letters(bench: Bench, language: str) -> None:
    with pytest.raises(UsageError, match="no language"):
        bench.run([row(NO, "refusal")], Terms(language=language))


# -- options, label, list ----------------------------------------------------------------------------------------------


def test_options_are_json_or_a_file_of_it(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text('{"model": "/models/guard"}')
    assert read_options(str(file)) == read_options(' {"model": "/models/guard"}') == {"model": "/models/guard"}
    assert read_options("") == {}


@pytest.mark.parametrize("text", ["{", '{"a": 1}}', "nowhere.json", '{"a"'])
def test_options_that_are_no_json_object_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_options(text)


def test_an_options_file_that_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text('{\n"a": 1,\n}')
    with pytest.raises(UsageError, match=r"options\.json: line 3: this is not JSON"):
        read_options(str(file))
    file.write_text("[]")
    with pytest.raises(UsageError, match="not a JSON object"):
        read_options(str(file))


def test_responses_are_labelled_in_their_order_with_the_lines_of_the_file(bench: Bench) -> None:
    bench.write(f"{json.dumps(row(NO))}\n\n{json.dumps(row(YES))}\n")
    found = label(bench.trial(), lambda progress: None)
    assert [(one.line, said.label) for one, said in found.judgements] == [(1, "refusal"), (3, "compliance")]
    assert found.said.failed == ()


def test_a_reference_reaches_the_judge(bench: Bench) -> None:
    bench.write([row("It is 24.", reference="24"), row("It is 24.", reference="25")])
    found = label(bench.trial("numeric"), lambda progress: None)
    assert [said.label for _, said in found.judgements] == ["correct", "wrong"]


def test_every_judge_is_listed_with_its_labels_or_what_it_needs() -> None:
    found = {one.name: one for one in judges()}
    assert set(found["refusal"].labels) == {"refusal", "compliance", "incoherent"}
    assert "for en" in found["refusal"].card
    assert "needs the option model" in found["llama-guard"].needs
    assert found["numeric"].card == ""
