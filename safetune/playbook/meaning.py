"""What a playbook says beyond its shape: names that exist, limits that can fail, gates that can say no."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from safetune.core.diagnostics import Diagnostic
from safetune.playbook.data_problems import option_problems, policy_problems, screen_problems, source_problems
from safetune.playbook.limits import budget_problems, guardrail_problems, may_block
from safetune.playbook.models import read_model
from safetune.playbook.names import Named, doubles, named, unknown
from safetune.playbook.nodes import Node
from safetune.playbook.paths import file_problem
from safetune.playbook.prompt_design import prompt_problems
from safetune.playbook.strict_yaml import quote


def problems(whole: Node, suites: Mapping[str, Node | None]) -> Iterator[Diagnostic]:
    """Yield the mistakes of a whole playbook; `suites` holds the definitions by name, None for an unreadable one."""
    model = whole.get("model")
    found = read_model(model) if model is not None else None
    if isinstance(found, Diagnostic):
        yield found
    yield from doubles(whole.items_of("guardrails"), "guardrail")
    yield from doubles(whole.items_of("sprints"), "sprint")
    yield from source_problems(whole)
    yield from policy_problems(whole.get("data"))
    yield from prompt_problems(whole)
    for guardrail in whole.items_of("guardrails"):
        yield from guardrail_problems(guardrail, suites)
    yield from _idle_guardrails(whole)
    sources, guardrails = named(whole.items_of("sources")), named(whole.items_of("guardrails"))
    for sprint in whole.items_of("sprints"):
        yield from _sprint_problems(sprint, sources, guardrails)
    yield from _rollback_problems(whole.items_of("rollback"))
    yield from budget_problems(whole)


def _idle_guardrails(whole: Node) -> Iterator[Diagnostic]:
    stages = [stage for sprint in whole.items_of("sprints") for stage in sprint.items_of("stages")]
    if not stages:
        return
    gated = {name for stage in stages for name, _ in stage.texts_of("gate")}
    for guardrail in whole.items_of("guardrails"):
        name = guardrail.get("name")
        if name is not None and name.text and name.text not in gated:
            message = f"the guardrail {quote(name.text)} is in no gate, so it guards nothing"
            yield name.place.diagnostic("SP316", message, "add it to the `gate` of a stage, or remove it")


def _sprint_problems(sprint: Node, sources: Named, guardrails: Named) -> Iterator[Diagnostic]:
    stages = sprint.items_of("stages")
    yield from doubles(stages, "stage")
    gated = {name for stage in stages for name, _ in stage.texts_of("gate")}
    for name, node in sprint.texts_of("success"):
        if name not in guardrails:
            yield unknown(node, name, "guardrail", guardrails)
        elif name not in gated:
            message = f"the guardrail {quote(name)} is in no gate of this sprint, so it is never measured"
            yield node.place.diagnostic("SP314", message, "add it to the `gate` of a stage of this sprint")
    for stage in stages:
        yield from _stage_problems(stage, sources, guardrails)


def _stage_problems(stage: Node, sources: Named, guardrails: Named) -> Iterator[Diagnostic]:
    yield from _share_problems(stage.get("sources"), sources)
    yield from _options(stage.get("train"))
    yield from screen_problems(stage, sources)
    techniques: set[str] = set()
    for item in stage.items_of("techniques"):
        for name, options in item.members.items():
            if name in techniques:
                message = f"the technique {quote(name)} is listed twice"
                yield item.key_place(name).diagnostic("SP301", message, "join the two")
            techniques.add(name)
            yield from _share_problems(options.get("sources"), sources)
            yield from _options(options)
    yield from _gate_problems(stage, guardrails)
    launch = stage.get("launch")
    config = launch.get("config_file") if launch is not None else None
    wrong = file_problem(config, "the configuration file") if config is not None and config.text.strip() else None
    if wrong is not None:
        yield wrong


def _share_problems(shares: Node | None, sources: Named) -> Iterator[Diagnostic]:
    """Yield sources that do not exist or may not be trained on."""
    if shares is None:
        return
    for name in shares.members:
        place = shares.key_place(name)
        source = sources.get(name)
        if source is None:
            yield unknown(Node(place, name), name, "source", sources)
        elif source.get("use") is not None and "train" not in {text for text, _ in source.texts_of("use")}:
            message = f"the source {quote(name)} may not be trained on: its `use` lacks train"
            yield place.diagnostic("SP307", message, f"see {source.key_place('use').where}")


def _options(options: Node | None) -> Iterator[Diagnostic]:
    return option_problems(iter(options.members.values() if options is not None else ()))


def _gate_problems(stage: Node, guardrails: Named) -> Iterator[Diagnostic]:
    gate = stage.get("gate")
    if gate is None:
        return
    named_here = stage.texts_of("gate")
    for name, node in named_here:
        if name not in guardrails:
            yield unknown(node, name, "guardrail", guardrails)
    known = [guardrails[name] for name, _ in named_here if name in guardrails]
    if known and len(known) == len(named_here) and not any(may_block(g) for g in known):
        message = "no guardrail of this gate blocks, so it cannot say no"
        yield gate.place.diagnostic("SP310", message, "add a guardrail with `severity: block`, or critical slices")


def _rollback_problems(rules: Iterable[Node]) -> Iterator[Diagnostic]:
    seen: dict[str, Node] = {}
    for rule in rules:
        for verdict, node in rule.texts_of("on"):
            if verdict in seen and seen[verdict] not in rule.items_of("on"):
                message = f"{quote(verdict)} has a rule already, at {seen[verdict].place.where}"
                yield node.place.diagnostic("SP311", message, "one rule decides each verdict; remove one")
            seen.setdefault(verdict, node)
        if rule.text_of("then") == "hold" and rule.get("to") is not None:
            message = "`to` has no effect with `then: hold`: the channel does not move"
            yield rule.key_place("to").diagnostic("SP313", message, "remove it")
