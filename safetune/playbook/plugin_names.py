"""Names of plugins in a playbook, held against the plugins that exist.

This room may not look plugins up itself, so whoever loads a playbook says which names there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.playbook.nodes import Node
from safetune.playbook.strict_yaml import quote
from safetune.playbook.text import Place

PluginNames = Mapping[str, tuple[str, ...]]

_Use = tuple[str, str, Place]  # kind of plugin, name, where it is named


def plugin_problems(whole: Node, suites: Mapping[str, Node | None], plugins: PluginNames) -> Iterator[Diagnostic]:
    """Yield every name of a trainer, technique, screen, judge, prompt generator or guard that no plugin has.

    A key of `plugins` such as `guard pii` holds the rules of that guard, so far as somebody knows them.
    """
    for kind, name, place in (*_in_stages(whole), *_in_suites(suites), *_in_data(whole)):
        known = plugins.get(kind)
        if name and known is not None and name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known) or 'none'}"
            what = "prompt generator" if kind == "prompts" else kind
            yield place.diagnostic("SP318", f"no {what} is called {quote(name)}", hint)
    for guard, rule, place in _rules(whole):
        rules = plugins.get(f"guard {guard}")
        if rules is not None and rule not in rules:
            hint = did_you_mean(rule, rules) or f"known: {', '.join(rules)}"
            yield place.diagnostic("SP318", f"the guard {quote(guard)} has no rule {quote(rule)}", hint)


def _guards(whole: Node) -> Iterator[tuple[str, Node, Place]]:
    """Yield name, settings and place of every guard: those of the data policy, and those of sources."""
    data = whole.get("data")
    for owner in (*((data,) if data is not None else ()), *whole.items_of("sources")):
        for item in owner.items_of("guards"):
            for name, settings in item.members.items():
                yield name, settings, item.key_place(name)


def _in_data(whole: Node) -> Iterator[_Use]:
    for name, _, place in _guards(whole):
        yield "guard", name, place


def _rules(whole: Node) -> Iterator[_Use]:
    for name, settings, _ in _guards(whole):
        rules = settings.get("rules")
        for rule in rules.members if rules is not None else ():
            yield name, rule, rules.key_place(rule) if rules is not None else settings.place


def _in_stages(whole: Node) -> Iterator[_Use]:
    for sprint in whole.items_of("sprints"):
        for stage in sprint.items_of("stages"):
            yield from _named(stage, "trainer", "trainer")
            for item in stage.items_of("techniques"):
                for name in item.members:
                    yield "technique", name, item.key_place(name)
            screen = stage.get("screen")
            if screen is not None:
                yield from _named(screen, "method", "screen")


def _in_suites(suites: Mapping[str, Node | None]) -> Iterator[_Use]:
    for suite in suites.values():
        if suite is None:
            continue
        yield from _chosen(suite.get("judge"), "judge")
        for attack in suite.items_of("attacks"):
            yield from _chosen(attack, "attack")
        prompts = suite.get("prompts")
        if prompts is not None:
            yield from _named(prompts, "generator", "prompts")


def _chosen(node: Node | None, kind: str) -> Iterator[_Use]:
    """Yield the plugin that is named with or without options."""
    if node is not None and node.text:
        yield kind, node.text, node.place
    elif node is not None:
        for name in node.members:
            yield kind, name, node.key_place(name)


def _named(node: Node, key: str, kind: str) -> Iterator[_Use]:
    found = node.get(key)
    if found is not None and found.text:
        yield kind, found.text, found.place
