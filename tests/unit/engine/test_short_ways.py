"""The short ways of many items give what the long ways give: bytes of rows, digests, prompts, answers in order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.digest import canonical
from safetune.core.evidence import Cells, Item, Judgement, Prompt
from safetune.core.suite import LIKELIHOOD, About, Decoding, Named, PromptSource, Suite
from safetune.engine import prompts as prompts_module
from safetune.engine.evidence_files import Rows
from safetune.engine.measure import Measured, Ordered
from safetune.engine.prompts import cells, load_once, load_prompts
from safetune.engine.prompts.columns import plain_prompt, prompts_of
from safetune.engine.prompts.files import Row
from safetune.engine.recorded import Asked, read_recorded
from safetune.engine.responses import request, request_digests
from safetune.state.lines import json_line

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SUITE = Suite(
    "s", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("exact"), (), Decoding(6, "Be kind.")
)
SCORES = st.one_of(st.floats(0, 1), st.sampled_from((0, 1, True, 1e-9)))


@given(st.tuples(TEXT, TEXT, TEXT, TEXT), TEXT, TEXT, SCORES, TEXT)
def test_a_row_put_together_is_byte_for_byte_the_row_of_its_item(
    named: tuple[str, str, str, str], output: str, label: str, score: float, language: str
) -> None:
    item_id, text, place, cluster = named
    rows = Rows(Path("/tmp"))
    prompt: Cells = (item_id, text, place, cluster, "", (), "", None)
    rows.writer("su\nite", "arm", "judge@1")(prompt, "key", output, Judgement(label, score), language)
    item = Item(item_id, "su\nite", place, cluster, "arm", 0, "key", output, "judge@1", score, label, language)
    assert list(rows.raw()) == [canonical(item.row)]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_no_row(score: float) -> None:
    write = Rows(Path("/tmp")).writer("s", "arm", "judge@1")
    with pytest.raises(ValueError, match="JSON compliant"):
        write(("i", "t", "", "", "", (), "", None), "key", "o", Judgement("yes", score), "")


def test_half_a_surrogate_pair_is_no_row() -> None:
    write = Rows(Path("/tmp")).writer("s", "arm", "judge@1")
    with pytest.raises(ValueError, match="surrogates"):
        write(("i", "t", "", "", "", (), "", None), "key", "\ud800", Judgement("yes", 1.0), "")


@given(TEXT, st.sampled_from(("", "Sure")), st.sampled_from((None, "", "Be brief.")), st.booleans())
def test_the_digest_of_a_request_is_that_of_the_request(
    text: str, prefill: str, system: str | None, likely: bool
) -> None:
    suite = replace(SUITE, evaluator=LIKELIHOOD) if likely else SUITE
    prompt = Prompt("i", text, prefill=prefill, system=system)
    (known,) = map(request_digests(suite), cells((prompt,)))
    assert known.hex() == request(prompt, suite).digest


ROWS = st.dictionaries(
    st.sampled_from(("id", "prompt", "topic", "group", "reference", "more")),
    st.one_of(TEXT, st.none(), st.integers(), st.just("\ud800"), st.just(["x"]), st.just(" ")),
)
COLUMNS = st.dictionaries(
    st.sampled_from(("id", "prompt", "slice", "cluster", "reference", "prefill", "system")),
    st.sampled_from(("topic", "group", "more", "", None)),
)


@given(ROWS, COLUMNS, st.sampled_from(("", "topic")), st.booleans())
def test_a_plain_prompt_is_the_prompt_of_its_row(
    row: dict[str, object], columns: dict[str, str | None], cluster: str, likely: bool
) -> None:
    source = replace(SUITE.prompts, options={"columns": columns})
    suite = replace(SUITE, prompts=source, cluster=cluster, evaluator=LIKELIHOOD if likely else SUITE.evaluator)
    found = plain_prompt(suite)(row)
    if found is not None:
        assert (found,) == prompts_of(suite, 1, Row("s", 1, row))


def test_an_ordinary_row_goes_the_short_way() -> None:
    row = {"id": "a", "prompt": "p"}
    assert plain_prompt(SUITE)(row) == Prompt("a", "p")
    assert plain_prompt(SUITE)({**row, "reference": "r"}) == Prompt("a", "p", reference="r")
    assert plain_prompt(SUITE)({**row, "reference": 3}) is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1}',
        b' {"a":1} ',
        b'{"a":1}\n',
        b"\xef\xbb\xbf[1]",
        '["\u00e4"]'.encode("utf-16"),
        b"[NaN]",
        b'{"a":1,"a":2}',
    ],
)
def test_a_line_says_what_json_says(line: bytes) -> None:
    assert repr(json_line(line)) == repr(json.loads(line))


@pytest.mark.parametrize("line", [b"", b"x", b"{} {}", b"[1", b"\xff", "[1]x"])
def test_what_is_no_json_is_refused_as_json_refuses_it(line: bytes | str) -> None:
    said = []
    for parse in (json.loads, json_line):
        try:
            parse(line)
        except ValueError as error:
            said.append(str(error))
    assert len(said) == 2
    assert said[0] == said[1]


def test_a_suite_is_read_once_for_all_who_want_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"question {n}"}) + "\n" for n in range(40)))
    suite = replace(SUITE, prompts=PromptSource("bundled", str(path)))
    times: list[str] = []

    def counted(suite: Suite, part: str) -> object:
        times.append(part)
        return load_prompts(suite, part)

    monkeypatch.setattr(prompts_module, "load_prompts", counted)
    load = load_once()
    assert load(suite, "open") is load(suite, "sealed")
    half = replace(suite, sampling=replace(suite.sampling, sealed=0.5))
    for part in ("open", "sealed"):
        assert load(half, part) == load_prompts(half, part)
    assert times == ["open", "open", "sealed"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2)])
def test_answers_in_order_are_the_answers_by_digest(tmp_path: Path, order: tuple[int, ...]) -> None:
    path = tmp_path / "said.jsonl"
    rows = [{"suite": "s", "item_id": f"p{n}", "output": f"answer {n}"} for n in order]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured = Measured(SUITE, tuple(Prompt(f"p{n}", f"question {n}") for n in range(3)))
    other = Measured(replace(SUITE, name="t"), (Prompt("q", "question 1"), Prompt("r", "question 1")))
    found = read_recorded(path, Asked((measured, other))).responses
    assert isinstance(found, Ordered)
    for one in (measured, other):
        keys = [request(prompt, one.suite).digest for prompt in one.prompts]
        assert list(found.in_order(one)) == [(key, found.get(key)) for key in keys]
    assert found[request(other.prompts[0], SUITE).digest] == "answer 1"
