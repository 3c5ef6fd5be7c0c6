"""What a row becomes: texts of several columns, languages, choices, structured references, openers, system messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import LIKELIHOOD, About, Decoding, Named, PromptSource, Suite
from safetune.engine.prompts import load_prompts, suite_fact
from safetune.plugins import load


def loaded(
    folder: Path, rows: Sequence[Mapping[str, Any]], changes: dict[str, Any] | None = None, **options: Any
) -> tuple[Prompt, ...]:
    return tuple(load_prompts(suite(folder, rows, changes, **options)))


def suite(
    folder: Path, rows: Sequence[Mapping[str, Any]], changes: dict[str, Any] | None = None, **options: Any
) -> Suite:
    data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    (folder / "p.jsonl").write_bytes(data)
    source = PromptSource("bundled", str(folder / "p.jsonl"), hashlib.sha256(data).hexdigest(), options)
    return Suite("s", About("d", "MIT", "here"), source, Named("j"), (), Decoding(6), **(changes or {}))


LIKELY: dict[str, Any] = {"evaluator": LIKELIHOOD}


def test_a_text_is_made_of_several_columns_and_cells_are_not_read_again(tmp_path: Path) -> None:
    (found,) = loaded(tmp_path, [{"a": "see {b}", "b": 7, "c": {"d": "deep"}}], text="{a} and { b }: {c.d} {{a}}")
    assert found.text == "see {b} and 7: deep {a}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{x}", 'row 1 has no column "x", which `text` names'),
        ("{a.b}", 'row 1 has no column "a.b"'),
        ("say {a", "`text` has a brace alone; write {{ for a brace"),
        ("say a}", "`text` has a brace alone; write }} for a brace"),
        ("{}", "has a brace alone"),
        ("{empty}", "row 1 has no prompt text"),
    ],
)
def test_a_text_that_cannot_be_filled_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as found:
        loaded(tmp_path, [{"a": "one", "empty": " "}], text=text)
    assert said in found.value.message


def test_each_language_is_an_item_whose_cluster_is_the_row(tmp_path: Path) -> None:
    rows = [{"id": "r1", "en": "Hello", "it": "Ciao"}, {"id": "r2", "en": "Bread", "it": "Pane"}]
    found = loaded(tmp_path, rows, languages={"en": "en", "it": "it"})
    assert [(p.item_id, p.text, p.slice, p.cluster) for p in found] == [
        ("r1-en", "Hello", "en", "r1"), ("r1-it", "Ciao", "it", "r1"),
        ("r2-en", "Bread", "en", "r2"), ("r2-it", "Pane", "it", "r2"),
    ]  # fmt: skip
    assert suite_fact(suite(tmp_path, rows, languages={"en": "en", "it": "it"})).clusters == 2
    families = loaded(tmp_path, [{**row, "f": "one"} for row in rows], {"cluster": "f"}, languages={"en": "en"})
    assert {p.cluster for p in families} == {"one"}


def test_a_language_without_its_column_or_its_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='row 1 has no column "de", which `languages: de` names'):
        loaded(tmp_path, [{"en": "Hello"}], languages={"de": "de"})
    with pytest.raises(UsageError, match='row 2 has no prompt text in column "it"'):
        loaded(tmp_path, [{"it": "Ciao"}, {"it": None}], languages={"it": "it"})


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "q", "choices": [" yes", " no"]}, None),
        ({"prompt": "q", "options": [" yes", " no"]}, {"choices": "options"}),
        ({"prompt": "q", "options": '[" yes", " no"]'}, {"choices": "options"}),
        ({"prompt": "q", "options": {"text": [" yes", " no"]}}, {"choices": "options.text"}),
        ({"prompt": "q", "a": " yes", "b": " no"}, {"choices": ["a", "b"]}),
    ],
)
def test_choices_come_from_one_column_or_several_and_keep_their_spaces(
    tmp_path: Path, row: Mapping[str, Any], columns: Mapping[str, object] | None
) -> None:
    (found,) = loaded(tmp_path, [row], LIKELY, **({"columns": columns} if columns else {}))
    assert found.choices == (" yes", " no")


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["only"], "row 1 has 1 choices; the likelihood of at least two is compared"),
        ([], "row 1 has 0 choices"),
        (["a", " "], "row 1 has an empty choice"),
        (["a", None], "row 1 has an empty choice"),
        (["a", "b", "a"], "row 1 has two equal choices"),
        ("a or b", "row 1 has choices that are no list"),
        ('{"a": 1}', "row 1 has choices that are no list"),
        (7, "row 1 has choices that are no list"),
    ],
)
def test_choices_that_cannot_be_compared_are_refused(tmp_path: Path, choices: object, said: str) -> None:
    with pytest.raises(UsageError) as found:
        loaded(tmp_path, [{"prompt": "q", "choices": choices}], LIKELY)
    assert said in found.value.message


def test_a_likelihood_suite_whose_choices_are_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='row 1 has no column "choices", which `columns: choices` names'):
        loaded(tmp_path, [{"prompt": "q"}], LIKELY)
    made = PromptSource("generator", "word-problems", "", {"seed": 1, "count": 3})
    with pytest.raises(UsageError, match="needs choices, and its prompts have none"):
        load_prompts(Suite("s", About("d", "MIT", "here"), made, Named("j"), (), Decoding(6), evaluator=LIKELIHOOD))


def test_choices_may_be_all_there_is_where_the_suite_says_so(tmp_path: Path) -> None:
    row: dict[str, Any] = {"prompt": "", "more": "One.", "less": "Two."}
    (found,) = loaded(tmp_path, [row], LIKELY, columns={"prompt": "", "choices": ["more", "less"]})
    assert (found.text, found.choices) == ("", ("One.", "Two."))
    with pytest.raises(UsageError, match="row 1 has no prompt text"):
        loaded(tmp_path, [row], LIKELY, columns={"choices": ["more", "less"]})
    with pytest.raises(UsageError, match="row 1 has no prompt text"):
        loaded(tmp_path, [row], columns={"prompt": ""})


def test_the_judge_of_choices_reads_the_index_of_the_right_one(tmp_path: Path) -> None:
    row = {"prompt": "q", "options": ["a", "b", "c"], "right": 2}
    (found,) = loaded(tmp_path, [row], LIKELY, columns={"choices": "options", "reference": "right"})
    judge = load("judge", "choice")
    logs = ([-3.0, -2.0, -1.0], [-1.0, -2.0, -3.0])
    said = [judge.label("q", json.dumps({"logprobs": log}), found.reference).label for log in logs]  # type: ignore[attr-defined]
    assert said == ["correct", "wrong"]


def test_several_reference_columns_are_one_canonical_object_with_their_own_types(tmp_path: Path) -> None:
    row: dict[str, Any] = {"prompt": "q", "z": 1, "a": {"k": ["ü", None]}, "m": {"deep": True}}
    (found,) = loaded(tmp_path, [row], columns={"reference": ["z", "a", "m.deep"]})
    assert found.reference == '{"a":{"k":["ü",null]},"deep":true,"z":1}'
    (one,) = loaded(tmp_path, [row], columns={"reference": ["z"]})
    assert one.reference == '{"z":1}'


def test_a_reference_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"prompt": "q", "a": NaN}\n')
    source = PromptSource("bundled", str(tmp_path / "q.jsonl"), "", {"columns": {"reference": ["a"]}})
    with pytest.raises(UsageError, match="row 1 has a reference that cannot be written as JSON"):
        load_prompts(Suite("s", About("d", "MIT", "here"), source, Named("j"), (), Decoding(6)))


@pytest.mark.parametrize(
    "row",
    [
        '{"prompt": "half \\ud800 a character"}',
        '{"prompt": "q", "reference": {"a": NaN}}',
        '{"prompt": "q", "id": "\\udfff"}',
    ],
)
def test_a_cell_that_cannot_be_written_down_is_refused_with_its_row(tmp_path: Path, row: str) -> None:
    (tmp_path / "q.jsonl").write_text(f'{{"prompt": "sound"}}\n{row}\n')
    source = PromptSource("bundled", str(tmp_path / "q.jsonl"))
    one = Suite("s", About("d", "MIT", "here"), source, Named("j"), (), Decoding(6))
    assert "row 2 cannot be used" in suite_fact(one).problem


def test_a_csv_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("prompt,kind,kind\nq,a,b\n")
    source = PromptSource("bundled", str(tmp_path / "q.csv"), "", {"format": "csv"})
    with pytest.raises(UsageError, match='two columns are called "kind"'):
        load_prompts(Suite("s", About("d", "MIT", "here"), source, Named("j"), (), Decoding(6)))


def test_openers_and_system_messages_come_from_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "q", "open": "Sure,", "rules": "Be kind."},
        {"prompt": "r", "open": "", "rules": None},
    ]
    one, two = loaded(tmp_path, rows, columns={"prefill": "open", "system": "rules"})
    assert (one.prefill, one.system) == ("Sure,", "Be kind.")
    assert (two.prefill, two.system) == ("", "")  # an empty message, not the suite's own
    assert {(p.prefill, p.system) for p in loaded(tmp_path, rows)} == {("", None)}


def test_a_slice_of_several_texts_is_a_list_a_person_can_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "q", "of": ["cats", "dogs"]}, {"prompt": "r", "of": {"b": 1, "a": 2}}]
    assert [p.slice for p in loaded(tmp_path, rows, {"slice": "of"})] == ["cats, dogs", '{"a":2,"b":1}']


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"k": ["a", "c"]}, ["1", "3"]),
        ({"k_not": ["a", "c"]}, ["2"]),
        ({"k_prefix": ["b", "c"]}, ["2", "3"]),
        ({"k_not_prefix": ["b", "c"]}, ["1"]),
        ({"n.m": 2}, ["2"]),
        ({"n.m": [1, 3]}, ["1", "3"]),
    ],
)
def test_where_takes_one_of_several_values_and_members_of_a_column(
    tmp_path: Path, where: Mapping[str, object], kept: list[str]
) -> None:
    rows = [{"prompt": str(n), "k": k, "n": {"m": n}} for n, k in ((1, "a"), (2, "bb"), (3, "c"))]
    assert [p.text for p in loaded(tmp_path, rows, where=where)] == kept


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "other"}, {"choices": ["x", "z"]}, {"open": "Sure"}, {"rules": "Be kind."}, {"prompt": "r"},
    ],
)  # fmt: skip
def test_the_identity_follows_everything_that_a_model_or_a_judge_reads(
    tmp_path: Path, change: Mapping[str, object]
) -> None:
    row = {"id": "1", "prompt": "q", "reference": "ref", "choices": ["x", "y"], "open": "", "rules": ""}
    columns = {"prefill": "open", "system": "rules"}

    def identity(rows: Sequence[Mapping[str, Any]]) -> str:
        made = suite(tmp_path, rows, LIKELY, columns=columns)
        unpinned = PromptSource("bundled", made.prompts.location, "", made.prompts.options)
        return suite_fact(
            Suite("s", made.about, unpinned, made.judge, (), made.decoding, evaluator=LIKELIHOOD)
        ).identity

    assert identity([row]) == identity([row]) != ""
    assert identity([{**row, **change}]) != identity([row])
