"""What a playbook asks for and the survey did not find as it must be, each at the line of the playbook that asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from safetune.core.diagnostics import Diagnostic
from safetune.core.plan import Fact, Facts
from safetune.core.playbook import Playbook

_CODES = {"model": "SP501", "source": "SP502", "suite": "SP503", "plugin": "SP504", "launch": "SP505"}


def survey_problems(facts: Facts, playbook: Playbook, where: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """Return every problem of the facts once. `where` maps parts of the playbook to `file:line`.

    What stands on no line of its own is said of the first line of the playbook.
    """
    found: dict[str, Diagnostic] = {}
    for part, users, fact in _parts(facts, playbook):
        if fact.problem:
            place = next((where[p] for p in (fact.part, part, *users) if p in where), f"{playbook.path}:1")
            file, _, line = place.rpartition(":")
            code = _CODES[part.partition(" ")[0]]
            found.setdefault(fact.problem, Diagnostic(file, int(line), 1, code, fact.problem))
    return tuple(found.values())


def _parts(facts: Facts, playbook: Playbook) -> Iterator[tuple[str, tuple[str, ...], Fact]]:
    """Yield every fact with the part of the playbook that it is about, and the parts that use it."""
    yield "model", (), facts.model
    yield from ((f"source {name}", (), fact) for name, fact in facts.checked.items())
    yield from ((f"suite {name}", _guardrails(playbook, name), fact) for name, fact in facts.suites.items())
    yield from ((f"plugin {name}", _users(playbook, name), fact) for name, fact in facts.plugins.items())
    for name, fact in facts.launch_files.items():
        yield f"launch {name}", _stages(playbook, launch=name), fact


def _guardrails(playbook: Playbook, suite: str) -> tuple[str, ...]:
    """Return the guardrails over a suite: a bundled one stands on no line of its own."""
    return tuple(f"guardrail {g.name}" for g in playbook.guardrails if g.suite == suite)


def _users(playbook: Playbook, plugin: str) -> tuple[str, ...]:
    """Return the suites that a judge labels, or the stages that a trainer or a technique is of."""
    kind, _, name = plugin.partition(" ")
    suites = [s.name for s in playbook.suites if kind == "judge" and s.judge.key == name]
    return (
        *(f"suite {suite}" for suite in suites),
        *(g for suite in suites for g in _guardrails(playbook, suite)),
        *(_stages(playbook, **{kind: name}) if kind != "judge" else ()),
    )


def _stages(playbook: Playbook, *, launch: str = "", trainer: str = "", technique: str = "") -> tuple[str, ...]:
    return tuple(
        f"stage {sprint.name}/{stage.name}"
        for sprint in playbook.sprints
        for stage in sprint.stages
        if (launch and stage.launch.config_file == launch)
        or (trainer and stage.trainer == trainer)
        or (technique and technique in [t.name for t in stage.techniques])
    )
