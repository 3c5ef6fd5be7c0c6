"""Evidence in files: written row by row as it always was, read row by row, refused when it is not what was judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from safetune import __version__
from safetune.core.digest import canonical
from safetune.core.errors import IntegrityError
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.suite import SCORE, Metric
from safetune.engine.evidence_files import Rows, read_evidence, write_evidence

METRIC = Metric("rate", ("yes",), "higher")


def items(suite: str, arm: str, n: int) -> tuple[Item, ...]:
    return tuple(
        Item(f"p{i}", suite, "ä", "", arm, 0, f"d{i}", f"line\n\u2028 {i} \r", "j@1", i / n, "yes", "de")
        for i in range(n)
    )


def report(*suites: tuple[str, int, int]) -> EvaluationReport:
    found = tuple(
        SuiteEvidence(
            name, "d", "j", "1", (METRIC,), now, items(name, CANDIDATE, now), items(name, BASELINE, before), ("yes",)
        )
        for name, now, before in suites
    )
    return EvaluationReport("subject", "baseline", found, {"device": "cpu"})


REPORT = report(("one", 7, 7), ("two", 3, 0), ("none", 0, 0))


def streamed(found: EvaluationReport, folder: Path) -> EvaluationReport:
    """Return the same report with its items in files."""

    def rows(known: Sequence[Item]) -> Rows:
        made = Rows(folder)
        for item in known:
            made.add(item)
        return made

    suites = tuple(replace(s, candidate=rows(s.candidate), baseline=rows(s.baseline)) for s in found.suites)
    return replace(found, suites=suites)


def test_the_files_are_byte_for_byte_what_the_rows_make_in_one_piece(tmp_path: Path) -> None:
    data = b"".join(canonical(i.row) + b"\n" for s in REPORT.suites for i in (*s.candidate, *s.baseline))
    write_evidence(REPORT, tmp_path / "whole")
    write_evidence(streamed(REPORT, tmp_path / "scratch"), tmp_path / "streamed")
    for name in ("whole", "streamed"):
        assert (tmp_path / name / "items.jsonl").read_bytes() == data
    about = (tmp_path / "whole" / "evaluation.json").read_bytes()
    assert (tmp_path / "streamed" / "evaluation.json").read_bytes() == about
    content = json.loads(about)
    assert (content["items"], content["safetune"]) == (hashlib.sha256(data).hexdigest(), __version__)
    assert sorted(p.name for p in (tmp_path / "streamed").iterdir()) == ["evaluation.json", "items.jsonl"]


def test_what_was_read_back_is_what_was_written_and_can_be_written_again(tmp_path: Path) -> None:
    write_evidence(streamed(REPORT, tmp_path), tmp_path / "first")
    found = read_evidence(tmp_path / "first")
    assert found == REPORT
    assert found != report(("one", 7, 6), ("two", 3, 0), ("none", 0, 0))
    write_evidence(found, tmp_path / "second")
    for name in ("items.jsonl", "evaluation.json"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_every_field_of_a_metric_is_read_back(tmp_path: Path) -> None:
    metrics = (
        Metric("rate", ("yes", "a", "no"), "higher"),
        Metric("mean", (), "lower", SCORE),
        Metric("strange", (), "sideways", "neither"),
    )
    plain = Metric("", (), "")
    for name in Metric.__slots__:
        assert any(getattr(metric, name) != getattr(plain, name) for metric in metrics), "no metric tries this field"
    suite = replace(REPORT.suites[0], metrics=metrics)
    write_evidence(replace(REPORT, suites=(suite,)), tmp_path)
    assert read_evidence(tmp_path).suites[0].metrics == metrics


def test_evidence_of_before_there_were_scores_is_written_and_read_as_ever(tmp_path: Path) -> None:
    write_evidence(REPORT, tmp_path)
    row = json.loads((tmp_path / "evaluation.json").read_bytes())["suites"][0]["metrics"]
    assert row == [{"name": "rate", "counts": ["yes"], "worse": "higher"}]
    assert read_evidence(tmp_path).suites[0].metrics == (METRIC,)


def write(folder: Path, rows: bytes, expected: bytes | None = None) -> None:
    write_evidence(REPORT, folder)
    content = json.loads((folder / "evaluation.json").read_bytes())
    content["items"] = hashlib.sha256(rows if expected is None else expected).hexdigest()
    (folder / "evaluation.json").write_bytes(canonical(content))
    (folder / "items.jsonl").write_bytes(rows)


ROW = canonical(items("one", CANDIDATE, 1)[0].row) + b"\n"


@pytest.mark.parametrize("rows", [ROW + b"{}\n", ROW[:-1], b"not JSON\n", b""])
def test_rows_that_were_not_judged_are_refused_whatever_they_are(tmp_path: Path, rows: bytes) -> None:
    write(tmp_path, rows, ROW)
    with pytest.raises(IntegrityError, match="the items are not the ones that were judged"):
        read_evidence(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        b"not JSON\n",
        b"\n",
        b"[]\n",
        b"{}\n",
        ROW.replace(b'"judge_score":0.0', b'"judge_score":NaN'),
        ROW.replace(b'"judge_score":0.0', b'"judge_score":"1"'),
        ROW.replace(b'"judge_score":0.0', b'"judge_score":1' + b"0" * 400),
        ROW.replace(b'"suite":"one"', b'"suite":["one"]'),
        ROW.replace(b'"suite"', b'"sweet"'),
    ],
)
def test_a_row_that_is_no_item_cannot_be_read(tmp_path: Path, row: bytes) -> None:
    write(tmp_path, ROW + row + ROW)
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_evidence(tmp_path)


def test_rows_of_a_suite_that_the_report_does_not_name_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, ROW + ROW.replace(b'"suite":"one"', b'"suite":"six"'))
    assert [len(s.candidate) for s in read_evidence(tmp_path).suites] == [1, 0, 0]


def test_items_that_change_after_they_were_read_decide_nothing(tmp_path: Path) -> None:
    write_evidence(REPORT, tmp_path)
    (suite, *_) = read_evidence(tmp_path).suites
    data = (tmp_path / "items.jsonl").read_bytes()
    (tmp_path / "items.jsonl").write_bytes(data.replace(b'"label":"yes"', b'"label":"not"'))
    with pytest.raises(IntegrityError, match="was changed"):
        list(suite.candidate)
