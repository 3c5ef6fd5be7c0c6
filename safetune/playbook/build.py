"""A checked document -> the frozen records of the core, and the digest of what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safetune.core.digest import JSON, digest, sha256_hex
from safetune.core.playbook import (
    Adapter,
    Guardrail,
    Inputs,
    Launch,
    Limits,
    ModelRef,
    Playbook,
    Promotion,
    RollbackRule,
    Slices,
    Source,
    Sprint,
    Stage,
    Technique,
)
from safetune.core.prompt_design import PromptDesign
from safetune.core.suite import LEAST_SAMPLES, Suite
from safetune.core.verdict import Verdict
from safetune.playbook.data import build_policy, build_screen, build_source, source_content
from safetune.playbook.nodes import Node
from safetune.playbook.paths import resolve
from safetune.playbook.prompt_design import build_prompts


def build(whole: Node, model: ModelRef, suites: tuple[Suite, ...], path: Path) -> Playbook:
    """Return the playbook of a document that has no mistakes."""
    playbook = Playbook(
        name=whole.text_of("name"),
        purpose=whole.text_of("purpose").strip(),
        owners=_texts(whole, "owners"),
        model=model,
        inputs=_inputs(whole),
        suites=suites,
        guardrails=tuple(_guardrail(node, suites) for node in whole.items_of("guardrails")),
        sprints=tuple(_sprint(node) for node in whole.items_of("sprints")),
        rollback=tuple(_rule(node) for node in whole.items_of("rollback")),
        promotion=_promotion(whole.members["promotion"]),
        digest="",
        path=str(path),
    )
    return _sealed(playbook)


def _inputs(whole: Node) -> Inputs:
    policy = build_policy(whole.get("data"))
    sources = tuple(build_source(node, policy) for node in whole.items_of("sources"))
    return Inputs(sources, policy, build_prompts(whole.get("prompts")))


def _sealed(playbook: Playbook) -> Playbook:
    return replace(playbook, digest=digest(content(playbook)))


def _texts(node: Node, key: str) -> tuple[str, ...]:
    return tuple(text for text, _ in node.texts_of(key))


def _number(node: Node, key: str, default: float) -> float:
    found = node.number_of(key)
    return default if found is None else found


def _guardrail(node: Node, suites: Sequence[Suite]) -> Guardrail:
    stated = {s.name: s.about.min_samples for s in suites}.get(node.text_of("suite"), LEAST_SAMPLES)
    flag = node.get("sequential")
    sequential = flag is not None and flag.value is True
    # A suite states what a fixed test needs to be worth running; one that stops early may do so long before.
    least = LEAST_SAMPLES if sequential else stated
    limits = ("at_most", "at_least", "worse_by_at_most", "better_by_at_least")
    return Guardrail(
        name=node.text_of("name"),
        suite=node.text_of("suite"),
        metric=node.text_of("metric"),
        limits=Limits(*(node.number_of(limit) for limit in limits)),
        why=node.text_of("why").strip(),
        severity=node.text_of("severity", "block"),
        confidence=_number(node, "confidence", 0.95),
        min_samples=node.whole_of("min_samples", least),
        slices=_slices(node.get("slices")),
        sequential=sequential,
    )


def _slices(node: Node | None) -> Slices | None:
    """`every`, a list of names, or a mapping with `only`, `critical` and `min_samples`."""
    if node is None:
        return None
    if not node.members:
        return Slices(tuple(item.text for item in node.items))
    return Slices(_texts(node, "only"), _texts(node, "critical"), node.whole_of("min_samples", LEAST_SAMPLES))


def _sprint(node: Node) -> Sprint:
    return Sprint(
        name=node.text_of("name"),
        objective=node.text_of("objective").strip(),
        success=_texts(node, "success"),
        stages=tuple(_stage(stage) for stage in node.items_of("stages")),
    )


def _stage(node: Node) -> Stage:
    adapter, launch, train = node.get("adapter"), node.get("launch"), node.get("train")
    techniques = (member for item in node.items_of("techniques") for member in item.members.items())
    return Stage(
        name=node.text_of("name"),
        trainer=node.text_of("trainer"),
        sources=_shares(node),
        train=_options(train) if train is not None else {},
        adapter=_adapter(adapter) if adapter is not None else None,
        techniques=tuple(_technique(name, options) for name, options in techniques),
        gate=_texts(node, "gate"),
        seed=node.whole_of("seed", 0),
        launch=_launch(launch) if launch is not None else Launch(),
        template=node.text_of("template"),
        screen=build_screen(node.get("screen")),
    )


def _shares(node: Node) -> tuple[tuple[str, float], ...]:
    found = node.get("sources")
    members: Mapping[str, Node] = found.members if found is not None else {}
    return tuple((name, float(share.value)) for name, share in members.items() if isinstance(share.value, int | float))


def _options(node: Node) -> Mapping[str, JSON]:
    return {name: member.json for name, member in node.members.items()}


def _technique(name: str, node: Node) -> Technique:
    options = {key: value for key, value in _options(node).items() if key != "sources"}
    return Technique(name, options, _shares(node))


def _adapter(node: Node) -> Adapter:
    default = Adapter()
    return Adapter(
        rank=node.whole_of("rank", default.rank),
        alpha=node.whole_of("alpha", default.alpha),
        dropout=_number(node, "dropout", default.dropout),
        target_modules=_texts(node, "target_modules") or default.target_modules,
    )


def _launch(node: Node) -> Launch:
    config = node.get("config_file")
    return Launch(
        num_processes=node.whole_of("num_processes", 1),
        config_file=str(resolve(config)) if config is not None else "",
        threads=node.whole_of("threads", 1),
    )


def _promotion(node: Node) -> Promotion:
    return Promotion(node.text_of("channel"), node.number_of("alpha_budget"))


def _rule(node: Node) -> RollbackRule:
    verdicts = tuple(Verdict(text) for text in _texts(node, "on"))
    return RollbackRule(verdicts, node.text_of("to", "last-promoted"), node.text_of("then"))


def content(playbook: Playbook) -> Mapping[str, JSON]:
    """Return what a playbook says, as JSON: the same wherever its files lie and however they are split or formatted."""
    return {
        "name": playbook.name,
        "purpose": playbook.purpose,
        "owners": list(playbook.owners),
        "model": _model_content(playbook.model),
        "sources": [_source_content(source) for source in playbook.sources],
        "data": playbook.inputs.policy.identity,
        **_prompts_content(playbook.inputs.prompts),
        "suites": [suite.identity for suite in playbook.suites],
        "guardrails": [guardrail.identity for guardrail in playbook.guardrails],
        "sprints": [_sprint_content(sprint) for sprint in playbook.sprints],
        "rollback": [{"on": [v.value for v in r.on], "to": r.to, "then": r.then} for r in playbook.rollback],
        **_promotion_content(playbook.promotion),
    }


def _promotion_content(promotion: Promotion) -> Mapping[str, JSON]:
    budget = promotion.alpha_budget
    return {"channel": promotion.channel, **({} if budget is None else {"alpha_budget": budget})}


def _model_content(model: ModelRef) -> Mapping[str, JSON]:
    """Leave out where a folder or a file lies: a plan is bound to its bytes."""
    local = model.kind in ("folder", "gguf")
    return {"kind": model.kind, "location": "" if local else model.location, "revision": model.revision}


def _source_content(source: Source) -> Mapping[str, JSON]:
    return source_content(source, _file_content(source.about.croissant))


def _prompts_content(design: PromptDesign) -> Mapping[str, JSON]:
    if not design.templates:
        return {}
    templates: list[JSON] = [{"name": template.name, **template.identity} for template in design.templates]
    return {"prompts": {"templates": templates, "serving": design.serving.name if design.serving else ""}}


def _sprint_content(sprint: Sprint) -> Mapping[str, JSON]:
    stages: list[JSON] = [_stage_content(stage) for stage in sprint.stages]
    return {"name": sprint.name, "objective": sprint.objective, "success": list(sprint.success), "stages": stages}


def _stage_content(stage: Stage) -> Mapping[str, JSON]:
    techniques: list[JSON] = [
        {"name": t.name, "options": t.options, "sources": dict(t.sources)} for t in stage.techniques
    ]
    launch: dict[str, JSON] = {
        "num_processes": stage.launch.num_processes,
        "config": _file_content(stage.launch.config_file),
        "threads": stage.launch.threads,
    }
    also: dict[str, JSON] = {"template": stage.template} if stage.template else {}
    also |= {"screen": stage.screen.identity} if stage.screen else {}
    return {
        "name": stage.name,
        "trainer": stage.trainer,
        "sources": dict(stage.sources),
        "train": stage.train,
        "adapter": stage.adapter.identity if stage.adapter else None,
        "techniques": techniques,
        "gate": list(stage.gate),
        "seed": stage.seed,
        "launch": launch,
        **also,
    }


def _file_content(path: str) -> str:
    """Return the digest of a small file; empty when there is none or it cannot be read."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            return sha256_hex(file.read(1024 * 1024))
    except OSError:
        return ""
