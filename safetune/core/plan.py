"""Facts in, plan out. Pure: the same playbook, facts and standing always give the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from safetune.core.alpha import HOW_TO_PAY, UNSPENT, BudgetStanding, allowed, cost, shortage
from safetune.core.digest import JSON, digest, short
from safetune.core.errors import ExitCode
from safetune.core.facts import Fact as Fact
from safetune.core.facts import Facts as Facts
from safetune.core.playbook import Guardrail, Playbook, Sprint, Stage, guardrails_digest
from safetune.core.redefined import compare
from safetune.core.regating import loosening
from safetune.core.stage_key import stage_key as stage_key
from safetune.core.stage_key import training_shape as training_shape
from safetune.core.standing import StageStanding, Standing
from safetune.core.suite import Suite
from safetune.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage of a plan. `action` is run, cached or blocked; `steps` is what a run will still do.

    `input_key` is the key of the stage it builds on, or empty for the base model; `exit_code` is what the stage ends
    the run with, where that is known already.
    """

    sprint: str
    stage: str
    key: str
    input_key: str
    action: str
    steps: tuple[str, ...]
    why: str
    checkpoint: str = ""
    shape: str = ""
    seconds: float | None = None
    seconds_origin: str = "unknown"
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True, slots=True)
class PlannedBudget:
    """The alpha budget of the playbook: what was spent before, what it now allows, and what this plan asks of it.

    `others` are budgets of other playbooks that were spent on gates for the same channel, by the playbook's name.
    """

    before: BudgetStanding
    allowed: float
    asked: float = 0.0
    others: Mapping[str, BudgetStanding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done and why. `bindings` names everything the plan rests on; `run` compares them one by one."""

    playbook: str
    path: str
    model: str
    channel: str
    rollback_target: str
    stages: tuple[PlannedStage, ...]
    bindings: Mapping[str, str]
    budget: PlannedBudget = PlannedBudget(UNSPENT, 0.0)

    @property
    def digest(self) -> str:
        """Digest of the bindings: two plans with equal digests would do exactly the same."""
        return digest(self.bindings)

    @property
    def has_changes(self) -> bool:
        """Whether running the plan would do anything."""
        return any(stage.action != "cached" for stage in self.stages)


def evidence_basis(guardrails: tuple[Guardrail, ...], suites: tuple[Suite, ...], facts: Facts) -> str:
    """Return the identity of a gate: guardrails, suites with their very prompts, and judges with their versions."""
    return digest(
        {
            "guardrails": guardrails_digest(guardrails),
            "suites": {s.name: facts.suites[s.name].identity for s in suites},
            "judges": {s.judge.key: facts.plugins[f"judge {s.judge.key}"].identity for s in suites},
        }
    )


def suites_of(playbook: Playbook, stage: Stage) -> tuple[Suite, ...]:
    """Return the suites that a stage's gate needs, in playbook order."""
    wanted = {g.suite for g in playbook.gate_of(stage)}
    return tuple(s for s in playbook.suites if s.name in wanted)


def make_plan(playbook: Playbook, facts: Facts, standing: Standing) -> Plan:
    """Say for every stage whether it is run, cached or blocked, and why."""
    stages: list[PlannedStage] = []
    previous: PlannedStage | None = None
    before = standing.budgets.get(playbook.name, UNSPENT)
    budget = PlannedBudget(before, allowed(playbook), others=_others(playbook, standing))
    for sprint in playbook.sprints:
        for stage in sprint.stages:
            planned = _plan_stage(playbook, sprint, stage, previous, (facts, standing))
            previous, budget = _paid(planned, playbook.gate_of(stage), standing, budget)
            stages.append(previous)
    current = standing.channels.get(playbook.channel)
    return Plan(
        playbook.name,
        playbook.path,
        facts.model.name,
        playbook.channel,
        current.current if current else "",
        tuple(stages),
        _bindings(playbook, facts, standing, tuple(stages)),
        budget,
    )


def _others(playbook: Playbook, standing: Standing) -> Mapping[str, BudgetStanding]:
    """Return what was spent for the channel under other names, the most first: a new name is a new budget."""
    found = [(n, b) for n, b in standing.budgets.items() if n != playbook.name and b.spent]
    found = [(name, budget) for name, budget in found if playbook.channel in budget.channels]
    return dict(sorted(found, key=lambda pair: (-pair[1].spent, pair[0])))


def _paid(
    planned: PlannedStage, guardrails: tuple[Guardrail, ...], standing: Standing, budget: PlannedBudget
) -> tuple[PlannedStage, PlannedBudget]:
    """Take what the gate of a stage costs from the budget; a stage whose gate cannot be paid is not even trained."""
    if not any(step.startswith("gate") for step in planned.steps):
        return planned, budget
    price = cost(guardrails, standing.attempts(planned.checkpoint) + 1)
    if why := shortage(price, budget.before, budget.allowed, budget.asked):
        why = f"{why}; {HOW_TO_PAY}"
        return _with(planned, action="blocked", steps=(), why=why, exit_code=ExitCode.INCONCLUSIVE), budget
    return planned, replace(budget, asked=budget.asked + price)


def _plan_stage(
    playbook: Playbook, sprint: Sprint, stage: Stage, previous: PlannedStage | None, world: tuple[Facts, Standing]
) -> PlannedStage:
    facts, standing = world
    input_key = previous.key if previous else ""
    key = stage_key(playbook, stage, input_key, facts)
    shape = training_shape(stage, facts.model.identity)
    found = standing.stages.get(key)
    planned = PlannedStage(sprint.name, stage.name, key, input_key, "run", (), "", shape=shape)
    seconds = facts.seconds_per_step.get(shape)
    steps = stage.train.get("max_steps")
    if seconds and isinstance(steps, int) and steps > 0:
        planned = _with(planned, seconds=seconds[0] * steps, seconds_origin=f"{seconds[0]:.2f} s/step in {seconds[1]}")
    if problem := _problem(playbook, stage, facts):
        return _with(planned, action="blocked", why=problem, exit_code=ExitCode.USAGE)
    if previous and previous.exit_code is not ExitCode.DONE:
        why = f"its input, stage {previous.stage}, {'is blocked' if previous.action == 'blocked' else 'did not pass'}"
        return _with(planned, action="blocked", why=why, exit_code=previous.exit_code)
    if found and found.verdict and found.basis != _basis(playbook, stage, facts):
        return _gate_again(planned, found, standing, playbook.gate_of(stage))
    return _decide_action(planned, previous, found, standing, playbook.channel)


def _gate_again(
    planned: PlannedStage, found: StageStanding, standing: Standing, guardrails: tuple[Guardrail, ...]
) -> PlannedStage:
    """Plan another gate of a checkpoint because guardrails, suites or judges are not those of the recorded one."""
    planned = _with(planned, checkpoint=found.checkpoint, seconds=None, seconds_origin="already trained")
    gates, definitions = standing.checkpoints[found.checkpoint].gates, [g.identity for g in guardrails]
    changes = "; ".join(change.text for change in compare(gates[-1].definitions, definitions))
    if less := loosening(gates, definitions, None):
        why = f"{less.text}; {how_to_agree(found.checkpoint, less.failed.evidence)}"
        return _with(planned, action="blocked", why=why, exit_code=ExitCode.INCONCLUSIVE)
    told = f" ({changes})" if changes else ""
    why = f"the gate changed since its recorded {found.verdict}{told}; gating again needs --reason"
    return _with(planned, steps=("evaluate", "gate again"), why=why)


def how_to_agree(checkpoint: str, evidence: str) -> str:
    """Return what to do before a gate may be made easier than one that said FAIL."""
    return (
        f"somebody else has to agree first: safetune approve {short(checkpoint)} --evidence {short(evidence)} "
        '--role ROLE --note "..."'
    )


def _basis(playbook: Playbook, stage: Stage, facts: Facts) -> str:
    return evidence_basis(playbook.gate_of(stage), suites_of(playbook, stage), facts)


def _decide_action(
    planned: PlannedStage,
    previous: PlannedStage | None,
    found: StageStanding | None,
    standing: Standing,
    channel: str,
) -> PlannedStage:
    """Compare what the ledger says about this stage with what the playbook asks for."""
    history = standing.channels[channel].history if channel in standing.channels else ()
    if found is None or not found.checkpoint:
        after = f"; input known after {previous.stage}" if previous and previous.action == "run" else ""
        why = "the last attempt failed; it will be tried again" if found else "never trained with these inputs"
        return _with(planned, steps=("train", "evaluate", "gate"), why=why + after)
    planned = _with(planned, checkpoint=found.checkpoint, seconds=None, seconds_origin="already trained")
    if found.verdict is None:
        return _with(planned, steps=("evaluate", "gate"), why="trained, not yet gated")
    checkpoint = standing.checkpoints[found.checkpoint]
    if found.verdict is not Verdict.PASS:
        serving = any(promoted == found.checkpoint for _, promoted in history)
        overridden = checkpoint.override and checkpoint.status != "quarantined"
        if overridden and serving and checkpoint.gates[-1].seq == found.gate:
            return _with(planned, action="cached", why=checkpoint.verdict_text)
        why = f"its gate said {found.verdict} (ledger line {found.gate}); a recorded verdict is final"
        if found.verdict is Verdict.ERROR:
            again = f'safetune evaluate PLAYBOOK {short(found.checkpoint)} --gate --reason "..."'
            why = f"its gate could not measure (ledger line {found.gate}); once the cause is mended: {again}"
        if overridden and checkpoint.gates[-1].seq == found.gate:
            why = f"{checkpoint.verdict_text}, but not on channel {channel}, where the verdict counts"
        if not found.settled and (checkpoint.status != "promoted" or serving):
            # A run was stopped between the verdict and what follows from it, or `evaluate --gate` gave the verdict.
            why += ", and what follows from it is not recorded yet"
            return _with(planned, steps=("settle",), why=why, exit_code=found.verdict.exit_code)
        return _with(planned, action="blocked", why=why, exit_code=found.verdict.exit_code)
    if found.gate < checkpoint.quarantined_at:
        why = (
            f"its checkpoint was rolled back (ledger line {checkpoint.quarantined_at}) and is quarantined; a new "
            f'passing gate frees it: safetune evaluate PLAYBOOK {short(found.checkpoint)} --gate --reason "..."'
        )
        return _with(planned, action="blocked", why=why, exit_code=ExitCode.INCONCLUSIVE)
    if any(promoted == found.checkpoint for _, promoted in history):
        return _with(planned, action="cached", why=f"PASS, promoted (ledger line {found.gate})")
    return _with(planned, steps=("promote",), why=f"PASS (ledger line {found.gate}), not yet promoted")


def _with(planned: PlannedStage, **changes: object) -> PlannedStage:
    return replace(planned, **changes)  # type: ignore[arg-type]


def _problem(playbook: Playbook, stage: Stage, facts: Facts) -> str:
    """Return the first thing missing in the world that this stage needs, or an empty string."""
    if facts.model.problem:
        return facts.model.problem
    if refused := next((lint.text for lint in facts.lint if lint.refused), ""):
        return refused
    used = [name for name, _ in stage.sources] + [name for t in stage.techniques for name, _ in t.sources]
    used += [name for name in stage.screen.anchors if name] if stage.screen else []
    suites = suites_of(playbook, stage)
    wanted = [facts.checked[name] for name in used] + [facts.suites[s.name] for s in suites]
    wanted += [facts.plugins[f"trainer {stage.trainer}"]]
    wanted += [facts.plugins[f"technique {t.name}"] for t in stage.techniques]
    wanted += [facts.plugins[f"judge {s.judge.key}"] for s in suites]
    wanted += [facts.launch_files[stage.launch.config_file]] if stage.launch.config_file else []
    return next((fact.problem for fact in wanted if fact.problem), "")


def _bindings(
    playbook: Playbook, facts: Facts, standing: Standing, stages: tuple[PlannedStage, ...]
) -> Mapping[str, str]:
    """Return everything the plan rests on, by a name that a person understands.

    What was spent of the alpha budget is not among it: it shows in whether a stage is blocked, and each gate of this
    very plan changes it. The budget itself is part of the playbook.
    """
    found = {"playbook": playbook.digest, "model": facts.model.identity}
    found |= {f"source {name}": fact.identity for name, fact in facts.sources.items()}
    found |= {f"rows of {name}": guarded.rows_sha256 for name, guarded in facts.guarded.items()}
    found |= {f"suite {name}": fact.identity for name, fact in facts.suites.items()}
    found |= {f"plugin {name}": fact.identity for name, fact in facts.plugins.items()}
    found |= {f"launch file {fact.name}": fact.identity for fact in facts.launch_files.values()}
    current = standing.channels.get(playbook.channel)
    found[f"channel {playbook.channel}"] = current.current if current else ""
    for stage in stages:
        found[f"stage {stage.sprint}/{stage.stage}"] = f"{stage.action} {'+'.join(stage.steps)} {stage.key}"
    return dict(sorted(found.items()))


def differences(saved: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return one line for each binding that differs between a saved plan and the world of now."""
    lines = []
    for name in sorted({*saved, *now}):
        before, after = saved.get(name), now.get(name)
        if before != after:
            lines.append(f"{name}: {_shown(before)} -> {_shown(after)}")
    return tuple(lines)


def _shown(value: str | None) -> str:
    if value is None:
        return "absent"
    words = value.split()
    return " ".join(word[:12] if len(word) == 64 else word for word in words) or "nothing"


def plan_json(plan: Plan) -> Mapping[str, JSON]:
    """Return the saved form of a plan."""
    return {
        "schema": "safetune-plan/1",
        "digest": plan.digest,
        "playbook": plan.playbook,
        "path": plan.path,
        "model": plan.model,
        "channel": plan.channel,
        "rollback_target": plan.rollback_target,
        "budget": {
            "allowed": plan.budget.allowed,
            "asked": plan.budget.asked,
            "spent": plan.budget.before.spent,
            "gates": list(plan.budget.before.lines),
            "recorded": plan.budget.before.budget if plan.budget.before.lines else None,
            "unpaid": [look.seq for look in plan.budget.before.unpaid],
            "others": {n: {"spent": one.spent, "budget": one.budget} for n, one in plan.budget.others.items()},
        },
        "stages": [{n: getattr(s, n) for n in s.__slots__} for s in plan.stages],
        "bindings": dict(plan.bindings),
    }
