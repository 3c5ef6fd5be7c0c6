"""Guards over whole sources: what is kept, what is written down, and how work goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetune.core.data_policy import DataPolicy, GuardSettings
from safetune.core.digest import canonical, sha256_hex
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.evidence import Prompt
from safetune.core.guarded import Guarded, guarded_from
from safetune.core.row_id import row_id
from safetune.core.source import Source
from safetune.engine.data import guarding
from safetune.engine.data.guarding import Guards, Scope
from safetune.protocols import Found, Progress

PII = GuardSettings("pii", "redact")


def told(question: str, answer: str = "It is so.") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def source(path: Path, *rows: object, name: str = "rows") -> Source:
    data = b"".join(row if isinstance(row, bytes) else canonical(row) + b"\n" for row in rows)  # type: ignore[arg-type]
    path.write_bytes(data)
    return Source(name, str(path), sha256_hex(data), "MIT", "made", "here", ("train",))


def silent(_: Progress) -> None:
    """Listen to nothing."""


def guard(one: Source, policy: DataPolicy, folder: Path | None = None, **scope: Any) -> Guarded:
    return Guards(Scope(policy, **scope)).guard(one, folder, silent)


def kept(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]


def findings(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (folder / "findings.jsonl").read_bytes().splitlines()]


def test_rows_without_findings_are_kept_as_they_are_with_their_ids(tmp_path: Path) -> None:
    rows = [told("What is a tree?"), told("What is a house?")]
    outcome = guard(source(tmp_path / "a.jsonl", *rows), DataPolicy(guards=(PII,)), tmp_path / "out")
    assert (outcome.rows, outcome.kept, outcome.flagged, outcome.problem) == (2, 2, 0, "")
    assert kept(tmp_path / "out") == [{"id": row_id(row), "row": row} for row in rows]
    assert outcome.rows_sha256 == sha256_hex((tmp_path / "out" / "rows.jsonl").read_bytes())


def test_a_redacted_row_keeps_its_id_and_loses_the_span(tmp_path: Path) -> None:
    row = told("Write to ann.smith@mail.example.org or bob@post.example.org, please.")
    outcome = guard(source(tmp_path / "a.jsonl", row), DataPolicy(guards=(PII,)), tmp_path / "out")
    (only,) = kept(tmp_path / "out")
    assert only["id"] == row_id(row)
    assert only["row"]["prompt"][0]["content"] == "Write to [EMAIL] or [EMAIL], please."
    assert outcome.counts == {"pii/email/redact": 2}
    assert outcome.flagged == 1
    for found in findings(tmp_path / "out"):
        assert found["row"] == row_id(row)
        assert (found["line"], found["file"], found["action"]) == (1, "a.jsonl", "redact")
    assert b"ann.smith" not in (tmp_path / "out" / "findings.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("action", "left", "problem"),
    [("flag", 2, ""), ("drop", 1, ""), ("off", 2, ""), ("block", 1, "guards block it: 1 x pii/email (a.jsonl:2)")],
)
def test_the_policy_says_what_a_finding_leads_to(tmp_path: Path, action: str, left: int, problem: str) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"), told("Write to ann.smith@mail.example.org."))
    outcome = guard(one, DataPolicy(guards=(GuardSettings("pii", action),)))
    assert (outcome.kept, outcome.problem) == (left, problem)


def test_a_rule_and_a_source_may_have_an_action_of_their_own(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"), told("Write to ann.smith@mail.example.org."))
    policy = DataPolicy(guards=(GuardSettings("pii", "block", {"email": "flag"}),))
    assert guard(one, policy).counts == {"pii/email/flag": 1}
    own = replace(one, guards=(GuardSettings("pii", "block", {"email": "drop"}),))
    assert guard(own, policy).counts == {"pii/email/drop": 1}


def test_of_several_findings_the_most_severe_decides(tmp_path: Path) -> None:
    row = told("Write to ann.smith@mail.example.org at the IP address 81.2.69.160.")
    policy = DataPolicy(guards=(GuardSettings("pii", "redact", {"ip": "drop"}),))
    outcome = guard(source(tmp_path / "a.jsonl", told("Fine?"), row), policy)
    assert outcome.kept == 1
    assert set(outcome.counts) == {"pii/email/redact", "pii/ip/drop"}


def test_an_unreadable_row_stops_or_is_left_out_as_the_policy_says(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"), b"{nothing\n", told("Good?"))
    with pytest.raises(UsageError, match=r"source rows: a\.jsonl:2: not JSON"):
        guard(one, DataPolicy())
    some = guard(one, DataPolicy(max_bad_rows=0.4))
    assert (some.rows, some.kept, some.bad, some.problem) == (2, 2, 1, "")
    few = guard(one, DataPolicy(max_bad_rows=0.1))
    assert few.problem.startswith("1 of 3 rows cannot be read, the first at a.jsonl:2: not JSON")


def test_a_row_of_another_shape_is_unreadable(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"), {"text": "no shape"})
    with pytest.raises(UsageError, match=r"a\.jsonl:2: a row here needs"):
        guard(one, DataPolicy())


def test_a_source_with_too_many_findings_or_without_rows_is_blocked(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"), told("Write to ann.smith@mail.example.org."))
    flags = (GuardSettings("pii", "flag"),)
    assert guard(one, DataPolicy(guards=flags, max_flagged=0.5)).problem == ""
    assert guard(one, DataPolicy(guards=flags, max_flagged=0.4)).problem.startswith("1 of 2 rows have findings")
    drops = DataPolicy(guards=(GuardSettings("pii", "drop"),))
    nothing = source(tmp_path / "b.jsonl", told("Write to ann.smith@mail.example.org."))
    assert guard(nothing, drops).problem == "no row of 1 is left after the guards"


def test_withdrawn_rows_are_dropped(tmp_path: Path) -> None:
    gone, stays = told("Mine?"), told("Fine?")
    one = source(tmp_path / "a.jsonl", gone, stays)
    outcome = guard(one, DataPolicy(), tmp_path / "out", withdrawn=frozenset({row_id(gone)}))
    assert [row["id"] for row in kept(tmp_path / "out")] == [row_id(stays)]
    assert outcome.counts == {"rows/withdrawn/drop": 1}


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"))
    (tmp_path / "a.jsonl").write_bytes(canonical(told("Other?")) + b"\n")
    with pytest.raises(IntegrityError, match="the playbook pins"):
        guard(one, DataPolicy())


def test_duplicates_are_found_across_sources_also_when_the_first_is_known_already(tmp_path: Path) -> None:
    row = told("What is the height of the old tower by the river?", "It is as high as forty houses, they say.")
    first = source(tmp_path / "a.jsonl", row)
    second = source(tmp_path / "b.jsonl", row, told("What else?"), name="more")
    scope = Scope(DataPolicy(guards=(GuardSettings("duplicates", "flag", {"exact": "drop"}),)))
    both = Guards(scope)
    known = both.guard(first, None, silent)
    fresh = both.guard(second, None, silent)
    assert fresh.counts == {"duplicates/exact/drop": 1}
    later = Guards(scope)
    later.known(first, known)
    assert later.key(second) == fresh.key
    assert later.guard(second, None, silent) == fresh


def test_guards_that_begin_anew_with_each_source_need_no_earlier_one_again(tmp_path: Path) -> None:
    first = source(tmp_path / "a.jsonl", told("What is a tree?"))
    second = source(tmp_path / "b.jsonl", told("What is a house?"), name="more")
    policy = DataPolicy(guards=(GuardSettings("outliers"), GuardSettings("hidden_cues"), PII))
    known = guard(first, policy)
    Path(first.path).unlink()
    later = Guards(Scope(policy))
    later.known(first, known)
    assert later.guard(second, None, silent).kept == 1


def test_the_key_changes_with_everything_that_may_change_the_outcome(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"))
    policy = DataPolicy(guards=(PII,))
    before = Guards(Scope(policy))
    before.known(one, Guarded("other", "k1"))
    keys = [
        Guards(Scope(policy)).key(one),
        Guards(Scope(replace(policy, guards=(GuardSettings("pii", "drop"),)))).key(one),
        Guards(Scope(replace(policy, max_bad_rows=0.1))).key(one),
        Guards(Scope(policy, withdrawn=frozenset({"x"}))).key(one),
        Guards(Scope(policy, {"s": [Prompt("i", "t")]}, "suites")).key(one),
        Guards(Scope(policy)).key(replace(one, sha256="0" * 64)),
        Guards(Scope(policy)).key(replace(one, columns={"prompt": "q"})),
        before.key(one),
    ]
    assert len(set(keys)) == len(keys)
    assert Guards(Scope(policy)).key(replace(one, path="/elsewhere")) == keys[0]


class Stopped(Exception):
    """Work was interrupted."""


def test_an_interrupted_pass_goes_on_and_ends_like_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "_BATCH", 4)
    monkeypatch.setattr(guarding, "_MARKED_EVERY", 8)
    monkeypatch.setattr(guarding, "_SAID_EVERY", 8)
    rows = [told(f"Who is number {n % 13} of the village people?", f"a{n % 13}@mail.example.org") for n in range(40)]
    one = source(tmp_path / "a.jsonl", *rows)
    policy = DataPolicy(guards=(PII, GuardSettings("duplicates", "flag", {"exact": "drop"})))
    whole = guard(one, policy, tmp_path / "whole")

    def stop_late(progress: Progress) -> None:
        if int(str(progress.fields["rows"])) >= 24:
            raise Stopped

    with pytest.raises(Stopped):
        Guards(Scope(policy)).guard(one, tmp_path / "out", stop_late)
    assert (tmp_path / "out" / "MARK.json").exists()
    seen: list[int] = []
    again = Guards(Scope(policy)).guard(one, tmp_path / "out", lambda p: seen.append(int(str(p.fields["rows"]))))
    assert again == whole
    assert seen[0] > 16  # it did not begin at the beginning
    for name in ("rows.jsonl", "findings.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["findings.jsonl", "rows.jsonl"]


@pytest.mark.parametrize("harm", ["rows", "mark", "other key"])
def test_a_damaged_interruption_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    monkeypatch.setattr(guarding, "_BATCH", 2)
    monkeypatch.setattr(guarding, "_MARKED_EVERY", 2)
    monkeypatch.setattr(guarding, "_SAID_EVERY", 2)
    one = source(tmp_path / "a.jsonl", *(told(f"Number {n}?") for n in range(8)))
    whole = guard(one, DataPolicy(guards=(PII,)), tmp_path / "whole")

    def stop(progress: Progress) -> None:
        if int(str(progress.fields["rows"])) >= 6:
            raise Stopped

    with pytest.raises(Stopped):
        Guards(Scope(DataPolicy(guards=(PII,)))).guard(one, tmp_path / "out", stop)
    if harm == "rows":
        data = (tmp_path / "out" / "rows.jsonl").read_bytes()
        (tmp_path / "out" / "rows.jsonl").write_bytes(data.replace(b"Number 1", b"Number 9"))
    elif harm == "mark":
        data = (tmp_path / "out" / "MARK.json").read_bytes()
        (tmp_path / "out" / "MARK.json").write_bytes(data.replace(b'"kept":4', b'"kept":3'))
    else:
        one = replace(one, guards=(GuardSettings("pii", "flag"),))
    again = guard(one, DataPolicy(guards=(PII,)), tmp_path / "out")
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()
    assert again.kept == whole.kept == 8


def test_an_outcome_is_read_back_from_its_json(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Fine?"), told("Write to ann.smith@mail.example.org."))
    outcome = guard(one, DataPolicy(guards=(PII,)))
    assert guarded_from(json.loads(canonical(outcome.json))) == outcome
    broken: tuple[object, ...] = (
        {},
        [],
        {**outcome.json, "rows": "2"},
        {**outcome.json, "counts": 3},
        {**outcome.json, "more": 1},
    )
    for wrong in broken:
        with pytest.raises(ValueError, match="guarded source"):
            guarded_from(wrong)


def test_only_named_guards_look(tmp_path: Path) -> None:
    one = source(tmp_path / "a.jsonl", told("Write to ann.smith@mail.example.org."), told("Fine?"))
    policy = DataPolicy(guards=(PII, GuardSettings("duplicates")))
    assert Guards(Scope(policy), ["duplicates"]).guard(one, None, silent).counts == {}
    with pytest.raises(UsageError, match="no guard pi"):
        Guards(Scope(policy), ["pi"]).guard(one, None, silent)


def test_rows_of_two_forms_in_one_source_are_refused_by_line(tmp_path: Path) -> None:
    other = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
    one = source(tmp_path / "a.jsonl", told("Fine?"), other)
    with pytest.raises(UsageError, match=r"a\.jsonl:2: has `messages`; the rows before have `prompt` \+ `completion`"):
        guard(one, DataPolicy())


def test_only_what_a_model_can_learn_is_stored_and_makes_the_id(tmp_path: Path) -> None:
    """Other columns are not looked at by any guard, so they must not go on."""
    row = told("Fine?")
    outcome = guard(
        source(tmp_path / "a.jsonl", {**row, "mail": "ann@mail.example.org"}), DataPolicy(), tmp_path / "out"
    )
    assert outcome.kept == 1
    assert kept(tmp_path / "out") == [{"id": row_id(row), "row": row}]


@pytest.mark.parametrize("more", [{"tool_calls": []}, {"reasoning_content": "ann@mail.example.org"}, {"name": "x"}])
def test_a_message_with_anything_but_role_and_content_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    row = told("Fine?")
    row["completion"][0] |= more
    with pytest.raises(UsageError, match=r"a\.jsonl:1: `completion` has a message with more than"):
        guard(source(tmp_path / "a.jsonl", row), DataPolicy())


class Careless:
    """A guard whose spans are wrong."""

    name, version, rules = "pii", "1", ("email",)

    def __init__(self, span: tuple[int, int]) -> None:
        self._span = span

    def begin(self, setup: object) -> None:
        """Nothing to get ready."""

    def check(self, rows: Any) -> Any:
        """Find something in the first row."""
        return [Found(0, "email", "prompt[0].content", *self._span, label="[X]")]

    def end(self) -> tuple[()]:
        """Nothing more."""
        return ()


@pytest.mark.parametrize("span", [(0, 0), (3, 2), (-4, 2), (0, 99)])
def test_what_cannot_be_cut_out_is_dropped_with_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, span: tuple[int, int]
) -> None:
    monkeypatch.setattr(guarding, "load", lambda *_: Careless(span))
    outcome = guard(source(tmp_path / "a.jsonl", told("secret"), told("Fine?")), DataPolicy(guards=(PII,)))
    assert (outcome.kept, outcome.counts) == (1, {"pii/email/drop": 1})
