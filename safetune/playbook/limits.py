"""A guardrail beyond its shape: limits that can fail and can be met, slices that exist, a budget that pays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from safetune.core.alpha import affordable, cost
from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.core.playbook import BLOCK, SEVERITIES, Guardrail, Limits, Slices
from safetune.playbook.names import named, unknown
from safetune.playbook.nodes import Node
from safetune.playbook.strict_yaml import quote

_LIMITS = ("at_most", "at_least", "worse_by_at_most", "better_by_at_least")

# A limit with this value passes whatever is measured.
_NO_LIMIT = {"at_most": 1, "at_least": 0, "worse_by_at_most": 1}
# No number of items shows that a limit with this value holds: the bound on a rate of 0 is above 0.
_OUT_OF_REACH = {"at_most": 0, "at_least": 1, "better_by_at_least": 1}

# The limit that would pass a worse model, for each direction of a metric.
_WRONG_SIDE = {"higher": ("at_least", "at_most"), "lower": ("at_most", "at_least")}


def guardrail_problems(guardrail: Node, suites: Mapping[str, Node | None]) -> Iterator[Diagnostic]:
    """Yield the mistakes of one guardrail; `suites` holds the definitions by name, None for an unreadable one."""
    yield from _limit_problems(guardrail)
    suite, metric = guardrail.get("suite"), guardrail.get("metric")
    if suite is None or not suite.text:
        return
    if suite.text not in suites:
        # A listed suite that could not be read may be the one that is meant here.
        if None not in suites.values():
            yield unknown(suite, suite.text, "suite of this playbook", suites)
        return
    definition = suites[suite.text]
    if definition is None:
        return
    yield from _slice_problems(guardrail, definition)
    if metric is None or not metric.text:
        return
    metrics = named(definition.items_of("metrics"))
    if metric.text not in metrics:
        hint = did_you_mean(metric.text, metrics) or f"known: {', '.join(metrics) or 'none'}"
        message = f"the suite {quote(suite.text)} has no metric {quote(metric.text)}"
        yield metric.place.diagnostic("SP309", message, hint)
        return
    yield from _wrong_side(guardrail, metrics[metric.text])


def _limit_problems(guardrail: Node) -> Iterator[Diagnostic]:
    limits = [name for name in _LIMITS if guardrail.get(name) is not None]
    if not limits and isinstance(guardrail.value, Mapping):
        message = f"the guardrail {quote(guardrail.text_of('name'))} sets no limit"
        yield guardrail.place.diagnostic("SP308", message, f"give it one of {', '.join(_LIMITS)}")
    for limit in limits:
        node = guardrail.members[limit]
        value = None if isinstance(node.value, bool) else node.value
        if value is not None and value == _NO_LIMIT.get(limit):
            yield node.place.diagnostic("SP308", f"`{limit}: {value:g}` can never fail", "set a limit that can")
        if value is not None and value == _OUT_OF_REACH.get(limit):
            message = f"`{limit}: {value:g}` can never be met: no number of items shows it"
            yield node.place.diagnostic("SP308", message, "leave room for what a sample cannot tell")
    floor, ceiling = guardrail.number_of("at_least"), guardrail.number_of("at_most")
    if floor is not None and ceiling is not None and floor >= ceiling:
        message = f"no rate is shown to be at least {floor:g} and at most {ceiling:g}"
        yield guardrail.members["at_least"].place.diagnostic("SP308", message, "remove one of the two limits")


def _wrong_side(guardrail: Node, metric: Node) -> Iterator[Diagnostic]:
    worse = metric.text_of("worse")
    wrong, right = _WRONG_SIDE.get(worse, ("", ""))
    node = guardrail.get(wrong) if wrong else None
    if node is not None and guardrail.get(right) is None:
        message = f"{metric.text_of('name')} is worse when it is {worse}: `{wrong}` would let the worst model pass"
        yield guardrail.key_place(wrong).diagnostic("SP317", message, f"use `{right}`")


def _slice_problems(guardrail: Node, suite: Node) -> Iterator[Diagnostic]:
    """Yield slices of a suite that has none, and a sequential test of one that is asked as a whole."""
    prompts = suite.get("prompts")
    if prompts is None:
        return
    name = quote(suite.text_of("name"))
    if guardrail.get("slices") is not None and not _has_slices(suite, prompts):
        message = f"the suite {name} has no slices: nothing in its definition names one"
        hint = "give the suite `slice`, `attacks`, `languages` or `rules`, or remove `slices` here"
        yield guardrail.key_place("slices").diagnostic("SP320", message, hint)
    sequential = guardrail.get("sequential")
    if sequential is not None and sequential.value is True and prompts.get("engine") is not None:
        message = f"`sequential` has no effect with the suite {name}: another tool asks the model, and asks everything"
        yield guardrail.key_place("sequential").diagnostic("SP313", message, "remove it")


def _has_slices(suite: Node, prompts: Node) -> bool:
    """Say whether the prompts of a suite can have slices; what a generator makes is only known when it has run."""
    named_here = [
        suite.get("slice"),
        suite.get("attacks"),
        *(prompts.get(k) for k in ("languages", "rules", "generator")),
    ]
    for part in ("columns", "engine"):
        inner = prompts.get(part)
        named_here.append(inner.get("slice") if inner is not None else None)
    return any(node is not None and node.value not in (None, "") for node in named_here)


def may_block(guardrail: Node) -> bool:
    """Say whether a guardrail can say no: by its severity, or by slices that are critical."""
    return _costing(guardrail).severity == BLOCK or bool(_critical(guardrail))


def _critical(guardrail: Node) -> tuple[str, ...]:
    slices = guardrail.get("slices")
    return tuple(text for text, _ in slices.texts_of("critical")) if slices is not None else ()


def budget_problems(whole: Node) -> Iterator[Diagnostic]:
    """Yield an alpha budget that does not pay for gating every stage once: a gate beyond it can never pass."""
    promotion = whole.get("promotion")
    budget = promotion.get("alpha_budget") if promotion is not None else None
    if budget is None or isinstance(budget.value, bool) or not isinstance(budget.value, int | float):
        return
    if budget.value <= 0:
        return  # the schema has said so
    guardrails, spent = named(whole.items_of("guardrails")), 0.0
    for sprint in whole.items_of("sprints"):
        for stage in sprint.items_of("stages"):
            gate = [_costing(guardrails[name]) for name, _ in stage.texts_of("gate") if name in guardrails]
            spent += cost(gate)
            if not affordable(spent, budget.value):
                title = quote(f"{sprint.text_of('name')}/{stage.text_of('name')}")
                message = (
                    f"an alpha budget of {budget.value:g} does not pay for the gate of {title}: it could never pass"
                )
                hint = f"the gates up to it cost {spent:.4g} together; allow that, or ask for more confidence"
                yield budget.place.diagnostic("SP321", message, hint)
                return


def _costing(node: Node) -> Guardrail:
    """Return as much of a guardrail as its cost depends on; what is written wrongly is said elsewhere."""
    severity, confidence = node.text_of("severity", BLOCK), node.number_of("confidence")
    return Guardrail(
        name=node.text_of("name"),
        suite="",
        metric="",
        limits=Limits(),
        why="",
        severity=severity if severity in SEVERITIES else BLOCK,
        confidence=0.95 if confidence is None else confidence,
        slices=Slices(critical=_critical(node)),
    )
