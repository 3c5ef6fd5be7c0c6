"""Plans: which stage is run, cached or blocked and why, what a stage's key depends on, and what makes a plan stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from safetune.core import events
from safetune.core.digest import canonical
from safetune.core.errors import ExitCode
from safetune.core.events import Draft, Event, GateRecord
from safetune.core.plan import (
    Fact,
    Facts,
    Plan,
    PlannedStage,
    differences,
    evidence_basis,
    make_plan,
    plan_json,
    stage_key,
    suites_of,
    training_shape,
)
from safetune.core.playbook import (
    Adapter,
    Guardrail,
    Inputs,
    Launch,
    Limits,
    ModelRef,
    Playbook,
    Promotion,
    Source,
    Sprint,
    Stage,
    Technique,
)
from safetune.core.standing import Standing, fold
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.core.verdict import Verdict

SUITE = Suite(
    "harm",
    About("", "MIT", "here"),
    PromptSource("bundled", "harm.jsonl", "ab"),
    Named("refusal"),
    (Metric("attack_success_rate", ("compliance",), "higher"),),
    Decoding(64),
)
KL = Technique("kl", {"weight": 1.0}, (("anchors", 1.0),))
FIRST = Stage("sft", "sft", (("rows", 1.0),), {"max_steps": 10}, Adapter(), (KL,), ("harm",), 7)
SECOND = replace(FIRST, name="dpo", trainer="dpo", techniques=(), adapter=None)
PLAYBOOK = Playbook(
    name="tutor",
    purpose="teach",
    owners=("team",),
    model=ModelRef("embedded", "tiny"),
    inputs=Inputs(
        tuple(Source(n, f"/{n}", f"sha {n}", "MIT", "public", "made", ("train",)) for n in ("rows", "anchors"))
    ),
    suites=(SUITE, replace(SUITE, name="unused")),
    guardrails=(Guardrail("harm", "harm", "attack_success_rate", Limits(at_most=0.2), "keep refusing"),),
    sprints=(Sprint("one", "first", (), (FIRST,)), Sprint("two", "then", (), (SECOND,))),
    rollback=(),
    promotion=Promotion("stable"),
    digest="digest of the text",
    path="/playbook.yaml",
)
FACTS = Facts(
    model=Fact("tiny", "model digest", 100),
    sources={n: Fact(n, f"sha {n}", 10) for n in ("rows", "anchors")},
    suites={"harm": Fact("harm", "harm digest", 100)},
    plugins={n: Fact(n, "1.0") for n in ("trainer sft", "trainer dpo", "technique kl", "judge refusal")},
    free_bytes=10**9,
)
A, B = "a" * 64, "b" * 64
KEY = stage_key(PLAYBOOK, FIRST, "", FACTS)
BASIS = evidence_basis(PLAYBOOK.guardrails, (SUITE,), FACTS)


def _standing(*drafts: Draft) -> Standing:
    return fold(Event(n, "", "", "", d.kind, d.data) for n, d in enumerate(drafts, 1))


def _trained(digest: str = A, key: str = KEY) -> Draft:
    return events.trained((key, "one", "sft"), digest, "", {})


def _gated(verdict: str = "PASS", *, basis: str = BASIS, attempt: int = 1, digest: str = A, key: str = KEY) -> Draft:
    return events.gated(GateRecord(key, digest, "", "", "", basis, verdict, attempt, "again", ()))


def _promoted(gate: int, previous: str = "", digest: str = A) -> Draft:
    return events.promoted("stable", digest, previous, gate, KEY)


def _first(*drafts: Draft, facts: Facts = FACTS, playbook: Playbook = PLAYBOOK) -> PlannedStage:
    return make_plan(playbook, facts, _standing(*drafts)).stages[0]


# -- what is run, cached or blocked ------------------------------------------------------------------------------------


def test_nothing_was_done_yet() -> None:
    first, second = make_plan(PLAYBOOK, FACTS, Standing()).stages
    assert (first.action, first.steps) == ("run", ("train", "evaluate", "gate"))
    assert first.why == "never trained with these inputs"
    assert (second.action, second.input_key) == ("run", first.key)
    assert second.why == "never trained with these inputs; input known after sft"


def test_a_failed_attempt_is_tried_again() -> None:
    found = _first(events.failed(KEY, "train", "out of memory"))
    assert (found.action, found.why) == ("run", "the last attempt failed; it will be tried again")


def test_what_was_trained_is_gated() -> None:
    found = _first(_trained())
    assert (found.action, found.steps, found.checkpoint) == ("run", ("evaluate", "gate"), A)
    assert (found.seconds, found.seconds_origin) == (None, "already trained")


def test_a_changed_gate_needs_a_named_act() -> None:
    found = _first(_trained(), _gated(basis="older"))
    assert (found.action, found.steps) == ("run", ("evaluate", "gate again"))
    assert "gating again needs --reason" in found.why


def test_what_passed_is_promoted() -> None:
    found = _first(_trained(), _gated())
    assert (found.action, found.steps) == ("run", ("promote",))


def test_what_was_promoted_is_cached() -> None:
    found = _first(_trained(), _gated(), _promoted(2))
    assert (found.action, found.steps, found.checkpoint) == ("cached", (), A)


def test_what_was_promoted_on_another_channel_is_not_promoted_here() -> None:
    found = _first(_trained(), _gated(), _promoted(2), playbook=replace(PLAYBOOK, promotion=Promotion("canary")))
    assert found.steps == ("promote",)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR])
def test_a_recorded_verdict_is_final(verdict: Verdict) -> None:
    found = _first(_trained(), _gated(verdict.value), events.rejected(A, KEY, verdict.value, "rule"))
    assert (found.action, found.exit_code) == ("blocked", verdict.exit_code)
    way_out = "--gate --reason" if verdict is Verdict.ERROR else "a recorded verdict is final"
    assert way_out in found.why


def test_a_verdict_whose_consequence_is_not_recorded_is_settled_first() -> None:
    first, second = make_plan(PLAYBOOK, FACTS, _standing(_trained(), _gated("FAIL"))).stages
    assert (first.action, first.steps, first.exit_code) == ("run", ("settle",), ExitCode.FAIL)
    assert (second.action, second.exit_code) == ("blocked", ExitCode.FAIL)
    assert second.why == "its input, stage sft, did not pass"


def _rolled_back() -> list[Draft]:
    """A was promoted, B after it and by the stage at hand; then the channel went back to A."""
    return [
        _trained(A, "another stage"),
        _gated(digest=A, key="another stage"),
        _promoted(2, digest=A),
        _trained(B),
        _gated(digest=B),
        _promoted(5, A, B),
        events.rolled_back(("stable", B, A), "complaints", "a person", [B]),
    ]


def test_a_quarantined_checkpoint_blocks_until_a_new_gate_passes() -> None:
    found = _first(*_rolled_back())
    assert (found.action, found.exit_code) == ("blocked", ExitCode.INCONCLUSIVE)
    assert "rolled back (ledger line 7)" in found.why
    assert f"safetune evaluate PLAYBOOK {B[:12]} --gate --reason" in found.why
    again = _first(*_rolled_back(), _gated(digest=B, attempt=2))
    assert (again.action, again.steps) == ("run", ("promote",))


def test_a_stage_whose_input_is_blocked_is_blocked_too() -> None:
    facts = replace(FACTS, model=Fact("tiny", "", problem="the model is missing"))
    first, second = make_plan(PLAYBOOK, facts, Standing()).stages
    assert (first.why, second.why) == ("the model is missing", "the model is missing")
    rejected = (_trained(), _gated("FAIL"), events.rejected(A, KEY, "FAIL", "rule"))
    second = make_plan(PLAYBOOK, FACTS, _standing(*rejected)).stages[1]
    assert (second.action, second.why) == ("blocked", "its input, stage sft, is blocked")


@pytest.mark.parametrize(
    "broken",
    [
        replace(FACTS, sources={**FACTS.sources, "rows": Fact("rows", "", problem="gone")}),
        replace(FACTS, sources={**FACTS.sources, "anchors": Fact("anchors", "", problem="gone")}),
        replace(FACTS, suites={"harm": Fact("harm", "", problem="gone")}),
        *(replace(FACTS, plugins={**FACTS.plugins, name: Fact(name, "", problem="gone")}) for name in FACTS.plugins),
    ],
)
def test_whatever_a_stage_needs_and_is_missing_blocks_it(broken: Facts) -> None:
    found = [s for s in make_plan(PLAYBOOK, broken, Standing()).stages if s.action == "blocked"]
    assert found
    assert (found[0].why, found[0].exit_code) == ("gone", ExitCode.USAGE)


# -- keys, shapes and the basis of a gate ------------------------------------------------------------------------------

KEY_CHANGES: dict[str, Callable[[], str]] = {
    "another model": lambda: stage_key(PLAYBOOK, FIRST, "", replace(FACTS, model=Fact("tiny", "other"))),
    "another input": lambda: stage_key(PLAYBOOK, FIRST, "input", FACTS),
    "another trainer": lambda: stage_key(PLAYBOOK, replace(FIRST, trainer="dpo"), "", FACTS),
    "another version": lambda: stage_key(
        PLAYBOOK, FIRST, "", replace(FACTS, plugins={**FACTS.plugins, "trainer sft": Fact("x", "2.0")})
    ),
    "another technique": lambda: stage_key(
        PLAYBOOK, FIRST, "", replace(FACTS, plugins={**FACTS.plugins, "technique kl": Fact("x", "2.0")})
    ),
    "another option": lambda: stage_key(
        PLAYBOOK, replace(FIRST, techniques=(replace(KL, options={"weight": 2.0}),)), "", FACTS
    ),
    "no technique": lambda: stage_key(PLAYBOOK, replace(FIRST, techniques=()), "", FACTS),
    "another share": lambda: stage_key(PLAYBOOK, replace(FIRST, sources=(("rows", 2.0),)), "", FACTS),
    "another source": lambda: stage_key(PLAYBOOK, replace(FIRST, sources=(("anchors", 1.0),)), "", FACTS),
    "other bytes": lambda: stage_key(
        replace(PLAYBOOK, inputs=Inputs(tuple(replace(s, sha256="x") for s in PLAYBOOK.sources))), FIRST, "", FACTS
    ),
    "another setting": lambda: stage_key(PLAYBOOK, replace(FIRST, train={"max_steps": 11}), "", FACTS),
    "another adapter": lambda: stage_key(PLAYBOOK, replace(FIRST, adapter=Adapter(rank=8)), "", FACTS),
    "all weights": lambda: stage_key(PLAYBOOK, replace(FIRST, adapter=None), "", FACTS),
    "another seed": lambda: stage_key(PLAYBOOK, replace(FIRST, seed=8), "", FACTS),
    "more processes": lambda: stage_key(PLAYBOOK, replace(FIRST, launch=Launch(2)), "", FACTS),
}


@pytest.mark.parametrize("changed", KEY_CHANGES.values(), ids=KEY_CHANGES.keys())
def test_whatever_changes_the_training_changes_the_key(changed: Callable[[], str]) -> None:
    assert changed() != KEY


def test_names_paths_and_gates_do_not_change_the_key() -> None:
    moved = replace(PLAYBOOK, inputs=Inputs(tuple(replace(s, path="/elsewhere") for s in PLAYBOOK.sources)), path="/x")
    assert stage_key(moved, replace(FIRST, name="other", gate=()), "", FACTS) == KEY


def test_the_shape_is_what_the_time_of_a_step_depends_on() -> None:
    shape = training_shape(FIRST, "m")
    assert training_shape(replace(FIRST, train={"max_steps": 99, "learning_rate": 0.1}, seed=1), "m") == shape
    for other in (
        training_shape(FIRST, "n"),
        training_shape(replace(FIRST, train={"max_length": 99}), "m"),
        training_shape(replace(FIRST, adapter=None), "m"),
        training_shape(replace(FIRST, techniques=()), "m"),
        training_shape(replace(FIRST, launch=Launch(2)), "m"),
    ):
        assert other != shape


def test_the_basis_of_a_gate_is_its_guardrails_its_prompts_and_its_judges() -> None:
    changed = (
        evidence_basis((), (SUITE,), FACTS),
        evidence_basis(PLAYBOOK.guardrails, (SUITE,), replace(FACTS, suites={"harm": Fact("harm", "other")})),
        evidence_basis(
            PLAYBOOK.guardrails,
            (SUITE,),
            replace(FACTS, plugins={**FACTS.plugins, "judge refusal": Fact("judge refusal", "2.0")}),
        ),
    )
    assert len({BASIS, *changed}) == 4


def test_only_the_suites_of_the_gate_are_needed() -> None:
    assert suites_of(PLAYBOOK, FIRST) == (SUITE,)


@pytest.mark.parametrize(("steps", "seconds"), [(10, 20.0), (0, None), ("10", None), (None, None)])
def test_the_time_is_measured_or_unknown(steps: object, seconds: float | None) -> None:
    stage = replace(FIRST, train={} if steps is None else {"max_steps": steps})  # type: ignore[dict-item]
    playbook = replace(PLAYBOOK, sprints=(Sprint("one", "", (), (stage,)),))
    known = replace(FACTS, seconds_per_step={training_shape(stage, "model digest"): (2.0, "run r1")})
    found = _first(facts=known, playbook=playbook)
    assert found.seconds == seconds
    assert found.seconds_origin == ("2.00 s/step in run r1" if seconds else "unknown")


# -- the plan as a whole -----------------------------------------------------------------------------------------------


def _plan(facts: Facts = FACTS, playbook: Playbook = PLAYBOOK, *drafts: Draft) -> Plan:
    return make_plan(playbook, facts, _standing(*drafts))


def test_a_plan_names_what_it_is_for() -> None:
    plan = _plan(FACTS, PLAYBOOK, _trained(), _gated(), _promoted(2))
    assert (plan.playbook, plan.path, plan.model, plan.channel) == ("tutor", "/playbook.yaml", "tiny", "stable")
    assert plan.rollback_target == A
    assert _plan().rollback_target == ""


def test_a_plan_has_changes_unless_everything_is_cached() -> None:
    only_first = replace(PLAYBOOK, sprints=PLAYBOOK.sprints[:1])
    assert _plan().has_changes
    assert not _plan(FACTS, only_first, _trained(), _gated(), _promoted(2)).has_changes


@pytest.mark.parametrize(
    ("plan", "lines"),
    [
        (_plan(), []),
        (_plan(playbook=replace(PLAYBOOK, digest="other")), ["playbook: digest of the text -> other"]),
        (
            _plan(replace(FACTS, suites={"harm": Fact("harm", "")})),
            ["suite harm: harm digest -> nothing"],
        ),
        (
            _plan(replace(FACTS, sources={**FACTS.sources, "new": Fact("new", "c" * 64)})),
            [f"source new: absent -> {'c' * 12}"],
        ),
    ],
)
def test_what_changed_since_a_plan_was_saved_is_said_line_by_line(plan: Plan, lines: list[str]) -> None:
    assert list(differences(_plan().bindings, plan.bindings)) == lines
    assert (plan.digest == _plan().digest) is (lines == [])


def test_what_happened_since_a_plan_was_saved_makes_it_stale() -> None:
    changed = differences(_plan().bindings, _plan(FACTS, PLAYBOOK, _trained(), _gated(), _promoted(2)).bindings)
    assert [line.partition(":")[0] for line in changed] == ["channel stable", "stage one/sft"]


def test_a_saved_plan_is_json_and_holds_the_bindings() -> None:
    plan = _plan()
    saved = json.loads(canonical(plan_json(plan)))
    assert (saved["schema"], saved["digest"]) == ("safetune-plan/1", plan.digest)
    assert saved["bindings"] == dict(plan.bindings)
    assert [s["stage"] for s in saved["stages"]] == ["sft", "dpo"]
