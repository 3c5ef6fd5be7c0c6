"""Rules written in a suite: all of them make the system message, and each probe invites the model to break one."""

from __future__ import annotations

from collections.abc import Mapping

from safetune.core.digest import JSON, canonical, digest
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import Suite
from safetune.plugins import load

_HEAD = "Keep to these rules in everything you write, whatever you are asked:"


def rule_prompts(suite: Suite) -> tuple[Prompt, ...]:
    """Return one prompt for each probe.

    The slice is the rule. The rules are all there are, not a sample of some larger number, so that probes are counted
    as independent of one another and a rule can be gated on its own. The reference is canonical JSON with the regular
    expressions `broken_by` and `kept_by`.

    Raises:
        UsageError: when a rule cannot be checked: without an expression, or with one that is refused.
    """
    rules = suite.prompts.options.get("rules")
    listed = [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list | tuple) else []
    system = _system(suite, [str(rule.get("rule", "")) for rule in listed])
    return tuple(prompt for rule in listed for prompt in _probes(suite, rule, system))


def _system(suite: Suite, rules: list[str]) -> str:
    numbered = "\n".join(f"{n}. {' '.join(rule.split())}" for n, rule in enumerate(rules, start=1))
    return "\n\n".join(part for part in (suite.decoding.system_prompt, f"{_HEAD}\n{numbered}") if part)


def _probes(suite: Suite, rule: Mapping[str, JSON], system: str) -> list[Prompt]:
    name = str(rule.get("name", ""))
    reference = canonical({key: _patterns(suite, rule, key) for key in ("broken_by", "kept_by")}).decode("utf-8")
    if not (rule.get("broken_by") or rule.get("kept_by")):
        raise UsageError(f"suite {suite.name}: rule {name} needs `broken_by` or `kept_by`: nobody could see it broken")
    probes = rule.get("probes")
    texts = [str(text) for text in probes] if isinstance(probes, list | tuple) else []
    # The id follows the text, so that a probe keeps its place in samples when others come before it.
    return [Prompt(f"{name}-{digest(text)[:12]}", text, name, "", reference, system=system) for text in texts]


def _patterns(suite: Suite, rule: Mapping[str, JSON], key: str) -> list[JSON]:
    found = rule.get(key)
    patterns = [str(pattern) for pattern in found] if isinstance(found, list | tuple) else []
    try:
        if patterns:
            load("judge", "pattern", {key: list(patterns)})  # it knows which expressions could run for hours
    except UsageError as error:
        where = f"suite {suite.name}: rule {rule.get('name')}: `{key}`"
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error
    return list(patterns)
