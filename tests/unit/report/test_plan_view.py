"""The plan view: a summary first, a why on every line, origins of figures, unknown stays unknown, and what next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.alpha import HOW_TO_PAY, BudgetStanding, Look
from safetune.core.data_policy import Loosened
from safetune.core.errors import ExitCode
from safetune.core.guarded import Guarded
from safetune.core.plan import Fact, Facts, Plan, PlannedBudget, PlannedStage
from safetune.core.preview import GuardrailPower
from safetune.engine.preview import Preview, StagePreview
from safetune.report.json_view import json_text
from safetune.report.plan import PlanView, plan_document, plan_exit_code, plan_lines

_CACHED = PlannedStage("install", "sft", "k1", "", "cached", (), "PASS, promoted (ledger line 9)", "a" * 64)
_RUN = PlannedStage("special", "sft", "k2", "k1", "run", ("train", "evaluate", "gate"), "never trained", shape="x")
_BLOCKED = PlannedStage("special", "dpo", "k3", "k2", "blocked", (), "its gate said FAIL", exit_code=ExitCode.FAIL)
_WRONG = replace(_BLOCKED, why="source rows: sha256 differs", exit_code=ExitCode.USAGE)
_POWER = GuardrailPower("h", "asks", "worse by <= 2 pt", "block", 400, 0.034, 1160, "INCONCLUSIVE", "n=400", "assumes")


def _view(*stages: PlannedStage, target: str = "b" * 64, problem: str = "", needed: int | None = 3_000_000) -> PlanView:
    plan = Plan("tutor", "/x/playbook.yaml", "tiny@abc", "stable", target, stages, {"playbook": "p"})
    facts = Facts(
        model=Fact("tiny@abc", "gguf:abc"),
        sources={"rows": Fact("rows", "r", 5_100, problem)},
        suites={"asks": Fact("asks", "s", 400)},
        plugins={},
        free_bytes=83_000_000_000,
    )
    previews = tuple(StagePreview(s.sprint, s.stage, "accelerate launch x", (_POWER,)) for s in stages)
    where = {"stage special/sft": "playbook.yaml:52", "source rows": "playbook.yaml:31"}
    return PlanView(facts, Preview(plan, previews, facts.free_bytes, needed, ("a note",)), where, "playbook.yaml")


def _text(view: PlanView) -> str:
    return "\n".join(plan_lines(view))


def test_the_summary_counts_and_names_base_channel_and_plan() -> None:
    first = plan_lines(_view(_CACHED, _RUN, _BLOCKED))[0]
    assert first.startswith("tutor   1 to run, 1 cached, 1 blocked   base tiny@abc   channel stable   plan ")


def test_every_stage_has_its_sign_its_action_and_its_reason() -> None:
    again = replace(_CACHED, action="run", steps=("evaluate", "gate again"), why="the gate changed")
    rows = [" ".join(line.split()) for line in plan_lines(_view(_CACHED, _RUN, _BLOCKED, again))[1:5]]
    assert rows == [
        "= install/sft cached PASS, promoted (ledger line 9)",
        "+ special/sft run train, evaluate, gate: never trained (playbook.yaml:52)",
        "! special/dpo blocked its gate said FAIL",
        "~ install/sft run evaluate, gate again: the gate changed",
    ]


def test_only_gates_that_will_be_decided_are_previewed_with_their_assumption_once() -> None:
    lines = [" ".join(line.split()) for line in plan_lines(_view(_CACHED, _RUN))]
    expected = "gate special/sft h worse by <= 2 pt n=400 detects 3.4 pt likely INCONCLUSIVE: n=400"
    assert [line for line in lines if line.startswith("gate")] == [expected]
    assert lines.count("assumes") == 1


def test_a_slice_has_a_row_of_its_own_and_a_sequential_test_its_expected_n() -> None:
    whole = replace(_POWER, likely="PASS", expected=120)
    place = "de\x1b[2J, smallest of 10 slices"
    part = replace(_POWER, n=10, detectable=None, place=place, why="n=10 is below the minimum of 30")
    seen = replace(_POWER, severity="observe", likely="PASS")
    view = _view(_RUN)
    stage = replace(view.preview.stages[0], power=(whole, part, seen))
    text = _text(replace(view, preview=replace(view.preview, stages=(stage,))))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert [line for line in lines if line.startswith("gate")] == [
        "gate sft h worse by <= 2 pt n=400 detects 3.4 pt, expected n=120 likely PASS",
        "gate sft de\\x1b[2J, smallest of 10 slices worse by <= 2 pt n=10 "
        "likely INCONCLUSIVE: n=10 is below the minimum of 30",
        "gate sft h (observed only) worse by <= 2 pt n=400 detects 3.4 pt likely PASS",
    ]


def test_stages_of_one_name_are_told_apart_by_their_sprints_on_every_line() -> None:
    again = replace(_RUN, sprint="install", key="k0", input_key="", seconds=60.0)
    lines = [" ".join(line.split()) for line in plan_lines(_view(again, _RUN, replace(_RUN, stage="dpo")))]
    assert [line.split()[1] for line in lines if line.startswith("gate")] == ["install/sft", "special/sft", "dpo"]
    assert "launch install/sft, special/sft, dpo: accelerate launch x" in lines
    costs = [line.split()[2] for line in lines if line.startswith("cost")]
    assert costs == ["install/sft:", "special/sft:", "dpo:"]


def test_unknown_cost_and_disk_stay_unknown_and_known_ones_say_where_from() -> None:
    assert "training sft: unknown" in [line[14:] for line in plan_lines(_view(_RUN, needed=None))]
    assert "need an unknown amount" in _text(_view(_RUN, needed=None))
    timed = replace(_RUN, seconds=840.0, seconds_origin="2.10 s/step in ledger line 41")
    assert "training sft: about 14 min (2.10 s/step in ledger line 41)" in _text(_view(timed))
    assert "new checkpoints need 3.0 MB; 83 GB free" in _text(_view(timed))
    assert "disk        83 GB free" in _text(_view(_CACHED, needed=0))


def test_the_rollback_target_is_named_where_there_is_one() -> None:
    assert "if a gate does not pass: stable holds bbbbbbbbbbbb" in _text(_view(_RUN))
    assert "rollback" not in _text(_view(_RUN, target=""))


def test_a_problem_in_the_world_is_shown_with_the_place_that_asks_for_it() -> None:
    text = _text(_view(_WRONG, problem="source rows: sha256 differs"))
    assert "source rows: sha256 differs (playbook.yaml:31)" in text
    assert "data        0 of 1 source, 0 B, with the digest that is pinned; not rows" in text


@pytest.mark.parametrize(
    ("stages", "last"),
    [
        ((_CACHED, _RUN), "next: safetune run playbook.yaml"),
        ((_CACHED,), "nothing to do"),
        ((_CACHED, _BLOCKED), "nothing to run: a recorded verdict blocks the rest"),
        ((_CACHED, _WRONG), "next: mend what blocks, then plan again"),
    ],
)
def test_the_last_line_says_what_next(stages: tuple[PlannedStage, ...], last: str) -> None:
    assert plan_lines(_view(*stages))[-1] == last


def test_a_saved_plan_is_what_next_names() -> None:
    lines = plan_lines(replace(_view(_RUN), saved="plan.json"))
    assert lines[-2:] == ["saved plan.json", "next: safetune run plan.json"]


@pytest.mark.parametrize(
    ("stages", "plain", "detailed"),
    [
        ((_CACHED,), 0, 0),
        ((_CACHED, _RUN), 0, 10),
        ((_CACHED, _BLOCKED), 0, 3),
        ((_RUN, replace(_BLOCKED, exit_code=ExitCode.INCONCLUSIVE)), 0, 10),
        ((replace(_BLOCKED, exit_code=ExitCode.INCONCLUSIVE),), 0, 4),
        ((replace(_BLOCKED, exit_code=ExitCode.FAILED_RUN),), 0, 6),
        ((_CACHED, _WRONG), 2, 2),
        ((_WRONG, replace(_RUN, stage="later")), 2, 2),
    ],
)
def test_exit_codes_of_a_plan(stages: tuple[PlannedStage, ...], plain: int, detailed: int) -> None:
    plan = _view(*stages).preview.plan
    assert (plan_exit_code(plan, False), plan_exit_code(plan, True)) == (plain, detailed)


def test_the_document_is_the_saved_form_and_more() -> None:
    document = plan_document(replace(_view(_CACHED, _RUN), saved="plan.json"))
    assert document["schema"] == "safetune-plan/1"
    assert document["has_changes"] is True
    assert document["saved"] == "plan.json"
    assert '"seconds_origin": "unknown"' in json_text(document)


def _paid(before: BudgetStanding, allowed: float, asked: float, *stages: PlannedStage) -> PlanView:
    view = _view(*stages)
    plan = replace(view.preview.plan, budget=PlannedBudget(before, allowed, asked))
    return replace(view, preview=replace(view.preview, plan=plan))


def test_the_alpha_budget_says_what_was_spent_and_what_the_plan_would_spend() -> None:
    text = _text(_paid(BudgetStanding(0.05, (9,), 0.2), 0.2, 0.05, _CACHED, _RUN))
    assert "  alpha       0.05 of 0.2 spent by 1 gate; this plan would spend 0.05 more" in text
    assert "was raised" not in text
    assert "  alpha       0 of 0.2 spent by 0 gates; this plan would spend 0.1 more" in _text(
        _paid(BudgetStanding(), 0.2, 0.1, _RUN)
    )


@pytest.mark.parametrize(("recorded", "allowed", "raised"), [(0.1, 0.2, True), (0.2, 0.1, False), (0.1, 0.1, False)])
def test_a_budget_above_the_recorded_one_was_raised(recorded: float, allowed: float, raised: bool) -> None:
    text = _text(_paid(BudgetStanding(0.05, (7, 9), recorded), allowed, 0.0, _CACHED))
    assert ("the alpha budget was raised from 0.1 (ledger line 9)" in text) == raised


def test_looks_that_were_not_paid_for_and_other_names_are_told() -> None:
    looks = (Look(3, "c", "e"), Look(4, "c", "e"))
    others = {f"tiny-{n}": BudgetStanding(0.05, (9,), 0.05) for n in range(7)}
    view = _paid(BudgetStanding(0.05, (9,), 0.2, unpaid=looks), 0.2, 0.05, _RUN)
    plan = view.preview.plan
    plan = replace(plan, budget=replace(plan.budget, others=others))
    text = _text(replace(view, preview=replace(view.preview, plan=plan)))
    assert "0.05 of 0.2 spent by 1 gate, 2 unpaid looks (evidence only); this plan would spend" in text
    channel = plan.channel
    assert f"note        channel {channel} was also gated under the name tiny-0: 0.05 of 0.05 spent" in text
    assert "tiny-4" in text
    assert "tiny-5" not in text
    assert "it was also gated under 2 other names: safetune status lists all" in text


def test_a_spent_budget_is_what_blocks() -> None:
    unpaid = replace(_BLOCKED, why=f"its gate asks 0.05; {HOW_TO_PAY}", exit_code=ExitCode.INCONCLUSIVE)
    view = _paid(BudgetStanding(0.2, (9,), 0.2), 0.2, 0.0, unpaid)
    assert plan_lines(view)[-1] == "nothing to run: the alpha budget is spent"
    assert plan_exit_code(view.preview.plan, detailed=True) is ExitCode.INCONCLUSIVE
    assert plan_exit_code(view.preview.plan, detailed=False) is ExitCode.DONE
    assert plan_lines(_view(_BLOCKED))[-1] == "nothing to run: a recorded verdict blocks the rest"


def test_the_document_holds_the_budget() -> None:
    document = plan_document(_paid(BudgetStanding(0.05, (9,), 0.1), 0.2, 0.05, _RUN))
    paid = {"allowed": 0.2, "asked": 0.05, "spent": 0.05, "gates": [9], "recorded": 0.1}
    assert document["budget"] == {**paid, "unpaid": [], "others": {}}


def test_a_source_without_its_pinned_digest_is_not_counted_as_one_that_has_it() -> None:
    view = _view(_RUN)
    assert "data        1 source, 5.1 kB, each with the digest that is pinned" in _text(view)
    facts = replace(
        view.facts,
        sources={**view.facts.sources, "shop": Fact("shop", "s"), "wrong": Fact("wrong", "w", 9, "sha256 is x")},
        guarded={"shop": Guarded("shop", "", problem="its sha256 is another")},
    )
    said = _text(replace(view, facts=facts))
    assert "data        1 of 3 sources, 5.1 kB, with the digest that is pinned; not shop, wrong" in said
    seen = replace(facts, guarded={"shop": Guarded("shop", "key")})
    assert "2 of 3 sources, 5.1 kB, with the digest that is pinned; not wrong" in _text(replace(view, facts=seen))


def test_guards_that_a_source_switches_off_or_weakens_are_said() -> None:
    milder = (
        Loosened("pii", "", "redact", "off", ("ip",)),
        Loosened("secrets", "", "block", "off"),
        Loosened("contamination", "ngram", "drop", "flag"),
    )
    view = replace(_view(_RUN), loosened={"mixed": milder, "rows": ()})
    expected = "! mixed: pii (but for ip), secrets off; contamination/ngram drop -> flag for this source"
    assert expected in _text(view)
    assert "! rows" not in _text(view)
    document = plan_document(view)["loosened"]
    assert document["mixed"][1]["guard"] == "secrets"  # type: ignore[index]
    assert list(document) == ["mixed"]  # type: ignore[call-overload]
