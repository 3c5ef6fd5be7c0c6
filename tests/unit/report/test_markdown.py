"""Markdown: a person finds the verdict, the table, why and what next; what others wrote stays text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from gate_samples import SEEN, flip, gate, hostile_report, limit, report
from markdown_it import MarkdownIt
from markdown_it.token import Token

from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, NotPermitted, PlaybookError, RunError, StalePlanError
from safetune.core.verdict import Verdict
from safetune.report.ci import CiReport, StageNote, failed_report, unfinished_report
from safetune.report.gate import GateView
from safetune.report.markdown import escape, markdown_text

_RENDER = MarkdownIt("commonmark").enable("table")
_OWN_HTML = {"<details><summary>Items that changed: 2 worse, 2 better</summary>\n", "</details>\n"}


def _kinds(tokens: list[Token]) -> Counter[str]:
    """Count what Markdown finds, by kind; text is text, however it is written."""
    found = Counter(part.type for token in tokens for part in (token, *(token.children or ())))
    return found - Counter({"text_special": 10_000, "text": 10_000})


def _html(tokens: list[Token]) -> set[str]:
    parts = (part for token in tokens for part in (token, *(token.children or ())))
    return {part.content for part in parts if part.type in ("html_block", "html_inline")}


def _rows(tokens: list[Token]) -> list[list[str]]:
    """Return the cells of the table as a reader sees them."""
    rows: list[list[str]] = []
    inside = False
    for token in tokens:
        rows += [[]] if token.type == "tr_open" else []
        inside = token.type in ("td_open", "th_open") or (inside and token.type == "inline")
        if token.type == "inline" and inside:
            rows[-1].append("".join(c.content for c in token.children or ()))
    return rows


def test_the_verdict_comes_first_then_the_table_why_and_what_next() -> None:
    found = gate(Verdict.FAIL, limit(Verdict.FAIL), limit(Verdict.PASS, "warn"), flips=(flip("p1"),))
    text = markdown_text(report(found))
    assert text.startswith("## safetune: FAIL\n\nstable: exit code 3, gate FAIL\n\n### Gate stable: FAIL\n")
    head, first, second = _rows(_RENDER.parse(text))
    assert head == ["guardrail", "base", "now", "delta", "95% bounds", "limit", "n", "verdict"]
    assert first == ["fail-block", "1.0%", "3.0%", "+2.0", "[0.8%, 7.5%]", "<= 10%", "100", "FAIL, reason fail-block"]
    assert second[-1] == "PASS (warns only)"
    assert "- why fail-block: why fail-block" in text
    assert "- **next**: change what is trained" in text
    assert "- evidence: eeeeeeeeeeee" in text
    assert "<details><summary>Items that changed: 1 newly unsafe</summary>" in text
    assert "- asks attack\\_success\\_rate, hate: 1 newly unsafe: p1" in text


def test_a_gates_own_reason_an_override_and_the_budget_are_told() -> None:
    found = gate(Verdict.INCONCLUSIVE, limit(Verdict.PASS), reason="spent")
    view = GateView("stable", found, "", (0.2, 0.2), "overridden (line 9)")
    text = markdown_text(CiReport("stable", ExitCode.INCONCLUSIVE, (view,)))
    assert "- reason: spent\n- INCONCLUSIVE, overridden (line 9); the verdict stays\n" in text.replace("&#8203;", "")
    assert "- alpha budget: this gate took 0.05; 0 of 0.2 is left" in text


def test_a_corrected_figure_is_no_list_in_a_list() -> None:
    corrected = replace(limit(Verdict.PASS), seen=replace(SEEN, estimate=0.02, corrected=True))
    text = markdown_text(report(gate(Verdict.PASS, corrected)))
    assert "- \\* pass-block &lt;= 10%: counted 3.0%" in text
    assert _kinds(_RENDER.parse(text))["bullet_list_open"] == 1


def test_flips_are_capped_with_a_count() -> None:
    flips = tuple(flip(f"p{n:03}") for n in range(30))
    text = markdown_text(report(gate(Verdict.FAIL, limit(Verdict.FAIL), flips=flips)))
    assert "30 newly unsafe" in text
    assert "p019 and 10 more" in text
    assert "p020" not in text
    many = tuple(flip(f"s{place}-{n}", f"s{place:03}") for place in range(200) for n in range(3))
    text = markdown_text(report(gate(Verdict.FAIL, limit(Verdict.FAIL), flips=many)))
    assert "- 600 items in all: `--json` has every one" in text
    assert text.count("newly unsafe: s") == 100


def test_a_long_table_is_capped_with_a_count_and_fits_a_comment() -> None:
    limits = [replace(limit(Verdict.FAIL, place=f"slice-{n}"), reason="r" * 250) for n in range(130)]
    text = markdown_text(report(gate(Verdict.FAIL, *limits)))
    assert "and 30 more lines: `--json` has them" in text
    assert len(_rows(_RENDER.parse(text))) == 101
    assert len(text) < 65_536


def test_a_run_tells_of_stages_that_it_did_not_gate() -> None:
    stage = StageNote("one/sft", "cached", Verdict.PASS, "ledger line 9")
    text = markdown_text(CiReport("tutor", ExitCode.DONE, (), (stage,)))
    assert text.startswith("## safetune: PASS\n")
    assert "- one/sft cached, gate PASS: ledger line 9" in text


def test_no_document_says_pass_where_the_exit_code_does_not() -> None:
    passed = gate(Verdict.PASS, limit(Verdict.PASS))
    assert markdown_text(report(passed)).startswith("## safetune: PASS\n")
    assert markdown_text(report(passed, ExitCode.STALE)).startswith("## safetune: ERROR\n")
    assert markdown_text(report(gate(Verdict.FAIL), ExitCode.ROLLED_BACK)).startswith("## safetune: FAIL\n")
    assert markdown_text(report(gate(Verdict.INCONCLUSIVE), ExitCode.DONE)).startswith("## safetune: ERROR\n")
    assert markdown_text(CiReport("t", ExitCode.DONE)).startswith("## safetune: ERROR\n")
    assert markdown_text(unfinished_report("t")).startswith("## safetune: ERROR\n")
    assert markdown_text(failed_report("t", NotPermitted("spent"))).startswith("## safetune: INCONCLUSIVE\n")


def test_an_error_is_told_with_its_hint_its_changes_and_its_places() -> None:
    text = markdown_text(failed_report("p.yaml", RunError("the worker died", hint="look at its log")))
    assert "error: the worker died\n\n- hint: look at its log" in text
    text = markdown_text(failed_report("p.yaml", StalePlanError("another world", changes=("model changed",))))
    assert "- changed: model changed" in text
    mistakes = tuple(Diagnostic("p.yaml", n, 2, "SP201", "no such key", hint="remove it") for n in range(1, 61))
    text = markdown_text(failed_report("p.yaml", PlaybookError(mistakes))).replace("&#8203;", "")
    assert "60 mistakes in the playbook; nothing was done" in text
    assert "- p.yaml:3:2 **SP201** no such key (remove it)" in text
    assert "- and 10 more" in text


def test_hostile_text_makes_nothing_that_a_plain_word_does_not_make(hostile: tuple[str, ...]) -> None:
    plain = _kinds(_RENDER.parse(markdown_text(hostile_report("word"))))
    for text in filter(None, hostile):  # without a name, a slice is the whole suite
        tokens = _RENDER.parse(markdown_text(hostile_report(text)))
        assert _kinds(tokens) <= plain, text
        assert _html(tokens) <= _OWN_HTML, text
        assert {len(row) for row in _rows(tokens)} <= {8}, text


def test_a_pipe_in_a_name_stays_in_its_cell() -> None:
    named = replace(limit(Verdict.FAIL), guardrail="a|b", slice="c\\|d", reason="e|f")
    (_, row) = _rows(_RENDER.parse(markdown_text(report(gate(Verdict.FAIL, named)))))
    assert (row[0], row[-1]) == ("a|b . c\\|d", "FAIL, e|f")


def test_no_mention_no_issue_no_address_comes_of_a_text() -> None:
    hostile = "@octocat #12 owner/repo#3 https://example.test www.example.test a@example.test :tada: GH-1"
    for word in ("@octocat", "#12", "://", "www.", "a@e", ":tada:"):
        assert word not in escape(hostile)
    assert _RENDER.renderInline(escape(hostile)).replace("\u200b", "") == hostile
    for word in ("a|b", "`x`", "**b**", "<b>", "[a](b)", "![a](b)", "~~s~~", "&amp;", "\\|", "$x$", "_i_"):
        kinds = _kinds(_RENDER.parse(escape(word)))
        assert kinds == Counter({"paragraph_open": 1, "inline": 1, "paragraph_close": 1})
        shown = _RENDER.renderInline(escape(word))
        assert shown == word.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
