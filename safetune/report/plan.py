"""The plan as a person reads it: a summary first, then one line per stage that says why, then what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetune.core.alpha import HOW_TO_PAY, amount, overspent, same
from safetune.core.data_policy import Loosened
from safetune.core.errors import ExitCode
from safetune.core.plan import Facts, Plan, PlannedStage, plan_json
from safetune.core.preview import GuardrailPower
from safetune.core.prompt_lint import Lint
from safetune.report.data_card import loosened_text
from safetune.report.json_view import jsonable
from safetune.report.text import PLAIN, Paint, columns, counted, digest_text, duration, name, points, size, unpaid_text
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.preview import Preview

_SENTENCE = 300
_COMMAND = 600
_LABEL = 10
_NAMES = 5  # budgets of other playbooks that are named one by one


def plan_exit_code(plan: Plan, detailed: bool) -> ExitCode:
    """Return what `plan` ends with: 2 when a wrong input blocks a stage, else 0.

    A stage that a recorded verdict blocks is information, not an error. With `detailed`: 10 when something would be
    run, else the code of the verdict that blocks, else 0.
    """
    blocked = next((s.exit_code for s in plan.stages if s.action == "blocked"), ExitCode.DONE)
    if blocked is ExitCode.USAGE or not detailed:
        return ExitCode.USAGE if blocked is ExitCode.USAGE else ExitCode.DONE
    return ExitCode.CHANGES if any(s.action == "run" for s in plan.stages) else blocked


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan to show: the facts it rests on, its preview, and what to give to `run`.

    `where` maps parts of the playbook, such as `stage SPRINT/STAGE`, to `file:line`; `saved` is the plan file, if any.
    `loosened` is what each source, by name, lets pass more easily than the data policy does.
    """

    facts: Facts
    preview: Preview
    where: Mapping[str, str]
    playbook: str
    saved: str = ""
    loosened: Mapping[str, tuple[Loosened, ...]] = field(default_factory=dict)


def plan_lines(view: PlanView, paint: Paint = PLAIN) -> list[str]:
    """Return the whole plan: a summary, one line per stage, what the gates can decide, data, launch, cost, and next."""
    preview = view.preview
    plan = preview.plan
    return [
        _summary(plan, paint),
        *_stages(plan, view.where, paint),
        *_gates(preview, paint),
        *_budget(plan),
        *_data(view, paint),
        *_lint(view.facts, view.where, paint),
        *_rollback(plan),
        *_launches(preview),
        *(_line("cost", text) for text in _costs(plan)),
        _line("disk", f"{_needed(preview)}{size(preview.free_bytes)} free"),
        *(_line("note", render_untrusted(note, _SENTENCE)) for note in preview.notes),
        *([f"saved {render_untrusted(view.saved, _SENTENCE)}"] if view.saved else []),
        *_next(plan, view.saved or view.playbook),
    ]


def _needed(preview: Preview) -> str:
    if preview.needed_bytes is None:
        return "new checkpoints need an unknown amount (none of this kind was made yet); "
    return f"new checkpoints need {size(preview.needed_bytes)}; " if preview.needed_bytes else ""


def _line(label: str, text: str) -> str:
    return f"  {label.ljust(_LABEL)}  {text}"


def _summary(plan: Plan, paint: Paint) -> str:
    counts = ", ".join(f"{sum(s.action == a for s in plan.stages)} {w}" for a, w in _ACTIONS)
    title = paint.strong(name(plan.playbook))
    return (
        f"{title}   {counts}   base {name(plan.model)}   channel {name(plan.channel)}   plan {digest_text(plan.digest)}"
    )


_ACTIONS = (("run", "to run"), ("cached", "cached"), ("blocked", "blocked"))


def _stages(plan: Plan, where: Mapping[str, str], paint: Paint) -> list[str]:
    rows = [_stage_row(stage, where) for stage in plan.stages]
    lines = columns(rows)
    marks = {"blocked": "FAIL", "run": "INCONCLUSIVE", "cached": "PASS"}
    return [
        "  " + paint.verdict(marks.get(stage.action, ""), line[:1]) + line[1:]
        for stage, line in zip(plan.stages, lines, strict=True)
    ]


def _stage_row(stage: PlannedStage, where: Mapping[str, str]) -> tuple[str, ...]:
    sign = {"cached": "=", "blocked": "!"}.get(stage.action, "+" if "train" in stage.steps else "~")
    title = f"{name(stage.sprint)}/{name(stage.stage)}"
    steps = ", ".join(name(step) for step in stage.steps)
    place = where.get(f"stage {stage.sprint}/{stage.stage}", "")
    why = render_untrusted(stage.why, _SENTENCE) + (f" ({render_untrusted(place, _SENTENCE)})" if place else "")
    return sign, title, name(stage.action), f"{steps}: {why}" if steps else why


def _titles(plan: Plan) -> Mapping[tuple[str, str], str]:
    """Return how lines about a stage call it: by its name, with the sprint where another sprint has the same name."""
    often = Counter(s.stage for s in plan.stages)
    return {
        (s.sprint, s.stage): f"{name(s.sprint)}/{name(s.stage)}" if often[s.stage] > 1 else name(s.stage)
        for s in plan.stages
    }


def _gates(preview: Preview, paint: Paint) -> list[str]:
    """One line per limit of every stage that will be gated, and the assumptions behind the figures once."""
    gated = {(s.sprint, s.stage) for s in preview.plan.stages if any(step.startswith("gate") for step in s.steps)}
    found = [(s, power) for s in preview.stages if (s.sprint, s.stage) in gated for power in s.power]
    titles = _titles(preview.plan)
    rows = [(titles[s.sprint, s.stage], *_power_row(power)) for s, power in found]
    lines = []
    for (_, power), line in zip(found, columns(rows), strict=True):
        before, word, after = line.rpartition(f"likely {name(power.likely)}")
        lines.append(_line("gate", f"{before}{paint.verdict(power.likely, word)}{after}"))
    notes = dict.fromkeys(power.note for _, power in found if power.note)
    return lines + [_line("", paint.faint(render_untrusted(note, _SENTENCE))) for note in notes]


def _budget(plan: Plan) -> list[str]:
    """Say what was spent of the alpha budget, what this plan would spend, and whether the budget was raised."""
    before, allowed, asked = plan.budget.before, plan.budget.allowed, plan.budget.asked
    over = overspent(before.spent, allowed)
    spent = f"{amount(before.spent)} of {amount(allowed)} spent by {counted(before.gates, 'gate')}"
    spent += f"{f', {over}' if over else ''}{unpaid_text(before)}"
    lines = [_line("alpha", f"{spent}; this plan would spend {amount(asked)} more")]
    others = list(plan.budget.others.items())
    for title, one in others[:_NAMES]:
        paid = f"{amount(one.spent)} of {amount(one.budget)} spent"
        lines.append(_line("note", f"channel {name(plan.channel)} was also gated under the name {name(title)}: {paid}"))
    if len(others) > _NAMES:
        more = counted(len(others) - _NAMES, "other name")
        lines.append(_line("note", f"it was also gated under {more}: safetune status lists all"))
    if before.lines and allowed > before.budget and not same(allowed, before.budget):
        raised = f"the alpha budget was raised from {amount(before.budget)} (ledger line {before.lines[-1]})"
        lines.append(_line("note", f"{raised}; the next gate writes that into the ledger"))
    elif before.lines and not same(allowed, before.budget):
        lowered = f"the alpha budget was lowered from {amount(before.budget)} (ledger line {before.lines[-1]})"
        lines.append(_line("note", lowered))
    return lines


def _power_row(power: GuardrailPower) -> tuple[str, ...]:
    """Return guardrail or slice, limit, what n items show, and what is likely; a slice has a row below its suite's."""
    severity = {"warn": " (warns only)", "observe": " (observed only)"}.get(power.severity, "")
    title = name(power.guardrail) if not power.place else f"  {render_untrusted(power.place, _SENTENCE)}"
    n = f"n={power.n:,}" if power.n is not None else "n unknown"
    sees = f"{n} detects {points(power.detectable).lstrip('+')} pt" if power.detectable is not None else n
    if power.expected is not None:
        sees += f", expected n={power.expected:,}"
    likely = f"likely {name(power.likely)}"
    why = f": {render_untrusted(power.why, _SENTENCE)}" if power.likely != "PASS" else ""
    return f"{title}{severity}", name(power.limit), sees, f"{likely}{why}"


def _data(view: PlanView, paint: Paint) -> list[str]:
    facts, where = view.facts, view.where
    lines = [_line("data", _pinned(facts)), *_guarded(facts)]
    milder = [loosened_text(source, found) for source, found in view.loosened.items() if found]
    lines += [_line("", f"! {text}") for text in milder]
    items = [f"{name(f.name)} {f.size:,}" if f.size is not None else name(f.name) for f in facts.suites.values()]
    lines.append(_line("suites", ", ".join(items) or "none"))
    return lines + [_line("problem", paint.verdict("ERROR", text)) for text in _problems(facts, where)]


def _pinned(facts: Facts) -> str:
    """Say how many sources were seen to have their pinned digest, and name the others.

    A source without a size is hashed when its rows are gone through; one that could not be gone through has no key.
    """
    seen: list[str] = []
    others: list[str] = []
    for source, fact in facts.sources.items():
        guarded = facts.guarded.get(source)
        hashed = fact.size is not None or bool(guarded and guarded.key)
        (seen if hashed and not fact.problem else others).append(source)
    total = size(sum(facts.sources[source].size or 0 for source in seen))
    if not others:
        return f"{counted(len(seen), 'source')}, {total}, each with the digest that is pinned"
    rest = ", ".join(name(source) for source in others[:_NAMES]) + (", ..." if len(others) > _NAMES else "")
    return (
        f"{len(seen)} of {counted(len(facts.sources), 'source')}, {total}, with the digest that is pinned; not {rest}"
    )


def _guarded(facts: Facts) -> list[str]:
    """Return what the guards made of the rows, and what speaks against a source without blocking it."""
    found = [one for one in facts.guarded.values() if one.rows]
    if not found:
        return []
    rows, kept = sum(one.rows + one.bad for one in found), sum(one.kept for one in found)
    flagged = sum(one.flagged for one in found)
    lines = [_line("rows", f"{kept:,} kept of {rows:,}; {flagged:,} with findings (safetune data check PLAYBOOK)")]
    lost = [
        f"{name(one.name)} {one.kept:,} of {one.rows + one.bad:,}" for one in found if one.kept < one.rows + one.bad
    ]
    lines += [_line("", f"kept: {', '.join(lost)}")] if lost else []
    warned = [one for one in facts.guarded.values() if one.warning]
    return lines + [_line("", render_untrusted(f"! {one.name}: {one.warning}", _SENTENCE)) for one in warned]


def _lint(facts: Facts, where: Mapping[str, str], paint: Paint) -> list[str]:
    """Return one line for each thing worth knowing of the prompt templates, and one that says what to do."""
    lines = []
    for lint in facts.lint:
        place = f" ({where[lint.part]})" if lint.part in where else ""
        text = render_untrusted(f"{lint.part}: {lint.text}{place}", _SENTENCE)
        verdict = "ERROR" if lint.refused else "INCONCLUSIVE"
        lines += [_line("prompts", paint.verdict(verdict, f"! {text}"))]
        lines += [_line("", paint.faint(render_untrusted(f"{lint.advice} [{lint.rule}]", _SENTENCE)))]
    return lines


def _problems(facts: Facts, where: Mapping[str, str]) -> list[str]:
    """Return what is wrong in the world, each once, with the place in the playbook that asks for it."""
    parts = {"model": facts.model}
    parts |= {f"source {key}": fact for key, fact in facts.checked.items()}
    parts |= {f"suite {key}": fact for key, fact in facts.suites.items()}
    parts |= {f"plugin {key}": fact for key, fact in facts.plugins.items()}
    found = {f.problem: where.get(f.part, where.get(part, "")) for part, f in parts.items() if f.problem}
    return [
        render_untrusted(f"{problem} ({place})" if place else problem, _SENTENCE) for problem, place in found.items()
    ]


def _rollback(plan: Plan) -> list[str]:
    if not plan.rollback_target:
        return []
    return [
        _line("rollback", f"if a gate does not pass: {name(plan.channel)} holds {digest_text(plan.rollback_target)}")
    ]


def _launches(preview: Preview) -> list[str]:
    trained = {(s.sprint, s.stage) for s in preview.plan.stages if "train" in s.steps}
    titles = _titles(preview.plan)
    stages: dict[str, list[str]] = {}
    for stage in preview.stages:
        if (stage.sprint, stage.stage) in trained:
            stages.setdefault(stage.launch, []).append(titles[stage.sprint, stage.stage])
    return [_line("launch", f"{', '.join(names)}: {render_untrusted(c, _COMMAND)}") for c, names in stages.items()]


def _costs(plan: Plan) -> list[str]:
    """Return what training is expected to take, with where each figure comes from; what is unknown stays unknown."""
    costs, titles = [], _titles(plan)
    for stage in (s for s in plan.stages if "train" in s.steps):
        origin = f" ({render_untrusted(stage.seconds_origin, _SENTENCE)})" if stage.seconds is not None else ""
        about = "about " if stage.seconds is not None else ""
        costs.append(f"training {titles[stage.sprint, stage.stage]}: {about}{duration(stage.seconds)}{origin}")
    return costs or ["no training"]


def _next(plan: Plan, target: str) -> list[str]:
    if plan_exit_code(plan, detailed=False) is not ExitCode.DONE:
        return ["next: mend what blocks, then plan again"]
    if any(s.action == "run" for s in plan.stages):
        return [f"next: safetune run {render_untrusted(target, _SENTENCE)}"]
    if plan.has_changes:
        unpaid = _unpaid(plan)
        return [f"nothing to run: {'the alpha budget is spent' if unpaid else 'a recorded verdict blocks the rest'}"]
    return ["nothing to do"]


def _unpaid(plan: Plan) -> bool:
    """Say whether what blocks the plan first is the alpha budget."""
    first = next((s for s in plan.stages if s.action == "blocked"), None)
    return first is not None and HOW_TO_PAY in first.why


def _plain(lint: Lint) -> Mapping[str, object]:
    return {name: getattr(lint, name) for name in lint.__slots__}


def plan_document(view: PlanView) -> Mapping[str, object]:
    """Return the plan as JSON: the saved form, the facts it rests on, gate power, launch commands and disk."""
    preview = view.preview
    return {
        **plan_json(preview.plan),
        "has_changes": preview.plan.has_changes,
        "saved": view.saved,
        "where": dict(view.where),
        "facts": jsonable(view.facts),
        "prompts": [{**_plain(lint), "where": view.where.get(lint.part, "")} for lint in view.facts.lint],
        "preview": jsonable(preview.stages),
        "free_bytes": preview.free_bytes,
        "needed_bytes": preview.needed_bytes,
        "notes": list(preview.notes),
        "loosened": {source: jsonable(found) for source, found in view.loosened.items() if found},
    }
