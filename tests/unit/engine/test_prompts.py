"""Prompts of a suite: bundled rows, a generator, or a public file; what cannot be used is refused with its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import IntegrityError, UsageError
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine.prompts import DATA_ROOT_VARIABLE, load_prompts, suite_fact


def suite(source: PromptSource, **changes: Any) -> Suite:
    return Suite("s", About("d", "MIT", "here"), source, Named("j"), (), Decoding(6), **changes)


def bundled(path: Path, text: str | bytes, pin: bool = True, **options: Any) -> PromptSource:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    return PromptSource("bundled", str(path), hashlib.sha256(data).hexdigest() if pin else "", options)


def jsonl(*rows: Mapping[str, object]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_rows_become_prompts_in_file_order(tmp_path: Path) -> None:
    rows = ({"id": "x", "prompt": "What?", "reference": "4", "topic": "sums"}, {"prompt": "Why?", "topic": None})
    found = load_prompts(suite(bundled(tmp_path / "p.jsonl", jsonl(*rows)), slice="topic"))
    assert [(p.item_id, p.text, p.slice, p.reference) for p in found] == [
        ("x", "What?", "sums", "4"),
        ("s-00002", "Why?", "", ""),
    ]


def test_a_fact_knows_items_and_clusters_of_every_slice(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n}?", "k": kind, "f": family}
        for n, (kind, family) in enumerate((*("ax",) * 2, "ay", "bx", ("b", "")))
    ]
    rows += [{"prompt": "z?", "k": "", "f": "y"}]
    fact = suite_fact(suite(bundled(tmp_path / "p.jsonl", jsonl(*rows)), slice="k", cluster="f"))
    assert fact.problem == ""
    assert (fact.size, fact.clusters) == (6, 3)
    assert fact.slices == {"a": (3, 2), "b": (2, 2)}


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    columns = {"prompt": "Goal", "id": "Index", "slice": "Category", "cluster": "Family"}
    text = 'Index,Goal,Category,Family\n1,"Say, please",a,f\n2,Again,b,f\n'
    found = load_prompts(suite(bundled(tmp_path / "p.csv", text, format="csv", columns=columns)))
    assert [(p.item_id, p.text, p.slice, p.cluster) for p in found] == [
        ("1", "Say, please", "a", "f"),
        ("2", "Again", "b", "f"),
    ]
    assert suite_fact(suite(bundled(tmp_path / "p.csv", text, format="csv", columns=columns))).clusters == 1


def test_a_csv_without_a_header_has_numbered_columns(tmp_path: Path) -> None:
    source = bundled(tmp_path / "p.csv", "a,first\nb,second\n", format="csv", header=False, columns={"prompt": "1"})
    assert [p.text for p in load_prompts(suite(source))] == ["first", "second"]


def test_a_json_list_under_a_key_is_read(tmp_path: Path) -> None:
    source = bundled(
        tmp_path / "p.json", '{"data": ["first", "second"]}', format="json", rows="data", columns={"prompt": "0"}
    )
    assert [p.text for p in load_prompts(suite(source))] == ["first", "second"]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"kind": "a"}, ["one", "three"]),
        ({"kind_prefix": "b"}, ["two"]),
        ({"kind_not_prefix": "b"}, ["one", "three"]),
        ({"kind": "a", "prompt": "three"}, ["three"]),
        ({"number": 2}, ["two"]),
    ],
)
def test_where_keeps_rows(tmp_path: Path, where: Mapping[str, object], kept: list[str]) -> None:
    rows = [{"prompt": p, "kind": k, "number": n} for p, k, n in (("one", "a", 1), ("two", "bb", 2), ("three", "a", 3))]
    assert [p.text for p in load_prompts(suite(bundled(tmp_path / "p.jsonl", jsonl(*rows), where=where)))] == kept


@pytest.mark.parametrize(
    ("named", "column", "where"),
    [
        ({"cluster": "famly"}, "famly", "cluster"),
        ({"slice": "famly"}, "famly", "slice"),
        ({"columns": {"cluster": "famly"}}, "famly", "columns: cluster"),
        ({"columns": {"id": "famly"}}, "famly", "columns: id"),
        ({"columns": {"prompt": "famly"}}, "famly", "columns: prompt"),
        ({"columns": {"reference": "famly"}}, "famly", "columns: reference"),
        ({"where": {"famly": "a"}}, "famly", "where"),
        ({"where": {"famly_not": "a"}}, "famly", "where"),
        ({"where": {"famly_prefix": "a"}}, "famly", "where"),
        ({"where": {"famly_not_prefix": "a"}}, "famly", "where"),
        ({"where": {"prompt_not": "two", "other": ""}}, "other", "where"),
    ],
)
def test_a_column_that_is_named_and_is_not_there_is_refused_with_suite_row_and_column(
    tmp_path: Path, named: Mapping[str, Any], column: str, where: str
) -> None:
    rows = ({"prompt": "one", "famly": "a", "other": ""}, {"prompt": "two", "family": "b"})
    changes = {key: str(named[key]) for key in ("slice", "cluster") if key in named}
    options = {key: named[key] for key in ("columns", "where") if key in named}
    with pytest.raises(UsageError) as found:
        load_prompts(suite(bundled(tmp_path / "p.jsonl", jsonl(*rows), **options), **changes))
    assert f'suite s: row 2 has no column "{column}", which `{where}` names' in found.value.message
    assert ('did you mean "family"?' in found.value.message) is (column == "famly")
    assert "family, prompt" in found.value.hint


def test_a_csv_row_that_is_too_short_is_refused_where_the_suite_names_the_column(tmp_path: Path) -> None:
    source = bundled(tmp_path / "p.csv", "prompt,kind\none,a\ntwo\n", format="csv")
    assert len(load_prompts(suite(source))) == 2
    with pytest.raises(UsageError, match="row 2 has no column"):
        load_prompts(suite(source, cluster="kind"))


def test_a_row_is_named_by_its_place_in_the_file_and_numbered_among_those_that_are_kept(tmp_path: Path) -> None:
    rows = ({"prompt": "x", "kind": "b"}, {"prompt": "y", "kind": "a"}, {"prompt": "", "kind": "a"})
    with pytest.raises(UsageError, match="row 3 has no prompt text"):
        load_prompts(suite(bundled(tmp_path / "p.jsonl", jsonl(*rows), where={"kind": "a"})))
    kept = load_prompts(suite(bundled(tmp_path / "p.jsonl", jsonl(*rows[:2]), where={"kind": "a"})))
    assert [p.item_id for p in kept] == ["s-00001"]


def test_where_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no prompts"):
        load_prompts(suite(bundled(tmp_path / "p.jsonl", jsonl({"prompt": "x", "kind": "b"}), where={"kind": "a"})))


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "has no prompts"),
        ("\n\n", {}, "has no prompts"),
        ('{"prompt": "x"}\nnot JSON\n', {}, "p:2: not JSON"),
        ('{"prompt": "x"}\n[]\n', {}, "p:2: a row must be an object"),
        ('{"prompt": "x"}\n{"prompt": "  "}\n', {}, "row 2 has no prompt text"),
        ('{"text": "x"}\n', {}, "row 1 has no prompt text"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\n', {}, "items with the same id"),
        (b"\xff\xfe\x00", {}, "cannot read p"),
        ("{}", {"format": "json", "rows": "data"}, "cannot be read as json"),
        ("5", {"format": "json"}, "cannot be read as json"),
        ('a,"b\n', {"format": "csv"}, "cannot be read as csv"),
        ("", {"format": "csv"}, "cannot be read as csv"),
        ("[" * 100_000, {}, "p:1: not JSON"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, text: str | bytes, options: Mapping[str, Any], said: str
) -> None:
    one = suite(bundled(tmp_path / "p", text, **options))
    with pytest.raises(UsageError, match=said):
        load_prompts(one)
    fact = suite_fact(one)
    assert said in fact.problem
    assert (fact.identity, fact.size) == ("", None)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    source = bundled(tmp_path / "p.jsonl", jsonl({"prompt": "x"}))
    (tmp_path / "p.jsonl").write_text(jsonl({"prompt": "y"}))
    with pytest.raises(IntegrityError, match="pinned is"):
        load_prompts(suite(source))


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_prompts(suite(PromptSource("bundled", str(tmp_path / "nothing"))))


def test_the_identity_follows_the_very_prompts(tmp_path: Path) -> None:
    facts = [
        suite_fact(suite(bundled(tmp_path / "p.jsonl", jsonl({"prompt": text}), pin=False))) for text in ("x", "y", "x")
    ]
    assert facts[0].identity == facts[2].identity != facts[1].identity


def test_a_public_file_lies_in_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = jsonl({"prompt": "x"}).encode()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "p.jsonl").write_bytes(data)
    source = PromptSource("public", "set/p.jsonl", hashlib.sha256(data).hexdigest(), {"source": "its page"})
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path))
    assert [p.text for p in load_prompts(suite(source))] == ["x"]
    for root in ("", str(tmp_path / "elsewhere")):
        monkeypatch.setenv(DATA_ROOT_VARIABLE, root)
        with pytest.raises(UsageError, match=r"public file set/p\.jsonl is") as found:
            load_prompts(suite(source))
        assert "its page" in found.value.hint


def test_a_generator_gives_the_same_prompts_every_time() -> None:
    def made(seed: int) -> Suite:
        return suite(PromptSource("generator", "word-problems", "", {"seed": seed, "count": 12}))

    first = load_prompts(made(5))
    assert len(first) == 12
    assert first == load_prompts(made(5))
    assert suite_fact(made(5)).identity != suite_fact(made(6)).identity


def test_an_unknown_generator_is_a_problem_of_the_plan() -> None:
    fact = suite_fact(suite(PromptSource("generator", "word-problem", "", {"seed": 1, "count": 2})))
    assert 'did you mean "word-problems"?' in fact.problem
