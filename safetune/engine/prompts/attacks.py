"""Attacks on the prompts of a suite: the name of the attack becomes the slice, the original prompt the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from safetune.core.digest import JSON
from safetune.core.errors import SafetuneError, UsageError
from safetune.core.evidence import Prompt
from safetune.core.sampling import cluster_key
from safetune.core.suite import Named, Suite
from safetune.plugins import load
from safetune.protocols import Attack


def attack_versions(suite: Suite) -> list[JSON]:
    """Return the name and version of each attack of a suite: other code may make other prompts.

    Raises:
        UsageError: when there is no such attack, or it does not take its options.
    """
    return [[named.name, str(getattr(_attack(named), "version", ""))] for named in suite.attacks]


def attacked(suite: Suite, prompts: Sequence[Prompt]) -> Iterable[Prompt]:
    """Return the prompts under every attack of the suite; unchanged where it has none.

    Raises:
        UsageError: when an attack is not there, breaks, or applies to no prompt at all: a slice that is missing would
            look like a model that withstood it.
    """
    names = [named.name for named in suite.attacks]
    if double := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"suite {suite.name}: the attack {double} is listed twice; its name is the slice")
    return _each(suite, prompts) if suite.attacks else prompts


def _each(suite: Suite, prompts: Sequence[Prompt]) -> Iterator[Prompt]:
    for named in suite.attacks:
        attack, applies = _attack(named), False
        for prompt in prompts:
            for variant in _variants(suite, named, attack, prompt):
                applies = True
                yield variant
        if not applies:
            raise UsageError(f"suite {suite.name}: the attack {named.name} applies to none of its prompts")


def _attack(named: Named) -> Attack:
    attack: Attack = load("attack", named.name, named.options)  # type: ignore[assignment]
    return attack


def _variants(suite: Suite, named: Named, attack: Attack, prompt: Prompt) -> list[Prompt]:
    where = f"suite {suite.name}: the attack {named.name}"
    try:
        variants = list(attack.variants(prompt))
    except SafetuneError:
        raise
    except Exception as error:  # an attack may be anybody's code
        raise UsageError(f"{where} broke on item {prompt.item_id}: {type(error).__name__}: {error}") from error
    for variant in variants:
        if variant.item_id == prompt.item_id or not variant.item_id.startswith(prompt.item_id):
            raise UsageError(f"{where} gave item {prompt.item_id} the id {variant.item_id!r}; it must add to it")
        if not variant.text.strip():
            raise UsageError(f"{where} left nothing of item {prompt.item_id}")
    return [replace(variant, slice=named.name, cluster=cluster_key(prompt)) for variant in variants]
