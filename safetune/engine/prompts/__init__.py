"""The prompts of a suite: from rows, a seeded generator or rules; sampled, split, and put under its attacks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from safetune.core.digest import JSON, digest, json_text
from safetune.core.errors import SafetuneError, UsageError
from safetune.core.evidence import Prompt
from safetune.core.plan import Fact
from safetune.core.sampling import ALL, OPEN, SEALED, chosen, leaked
from safetune.core.suite import INCOHERENT, LIKELIHOOD, UNJUDGED, Sampling, Suite
from safetune.engine.cards import calibration, own_card
from safetune.engine.judging import AnyJudge
from safetune.engine.prompts.attacks import attack_versions, attacked
from safetune.engine.prompts.columns import plain_prompt, prompts_of
from safetune.engine.prompts.files import Row, locate, read_rows
from safetune.engine.prompts.kept import cells, keep
from safetune.engine.prompts.rules import rule_prompts
from safetune.plugins import load
from safetune.protocols import Judge, PromptGenerator
from safetune.state.public import DATA_ROOT_VARIABLE

__all__ = [
    "ALL",
    "DATA_ROOT_VARIABLE",
    "OPEN",
    "SEALED",
    "Load",
    "cells",
    "load_once",
    "load_prompts",
    "locate",
    "suite_fact",
]

_ENGINE = "engine"  # the kind of prompts that another tool has


Load = Callable[[Suite, str], Sequence[Prompt]]


def load_once() -> Load:
    """Return a `load_prompts` that reads every suite once, for all who want it in one command.

    A plan's facts, and what is then measured, are so of the same prompts, even when a file is changed meanwhile.
    """
    known: dict[tuple[str, Sampling, str], Sequence[Prompt]] = {}

    def load_it(suite: Suite, part: str) -> Sequence[Prompt]:
        key = suite.name, suite.sampling, part if suite.sampling.sealed > 0 else ALL
        if key not in known:
            known[key] = load_prompts(suite, part)
        return known[key]

    return load_it


def load_prompts(suite: Suite, part: str = ALL) -> Sequence[Prompt]:
    """Return the prompts of one part of a suite: `sealed` is for gates, `open` for everything else, `all` is both.

    They are in file order, under one attack after the other. A suite that seals nothing has the same prompts in every
    part. A suite that another tool runs has none: the tool asks the model itself.

    Raises:
        UsageError: when a file is missing or a row is not usable (with file and line), when a prompt lies in both
            parts, or when nothing is left.
        IntegrityError: when a public file is not the pinned one.
    """
    if suite.prompts.kind == _ENGINE:
        return ()  # the tool has prompts of its own
    everything = keep(_distinct(suite, _read(suite)))
    if not everything:
        raise UsageError(f"suite {suite.name} has no prompts")
    _check(suite, everything)
    kept = keep(chosen(everything, suite.sampling, part))
    if not kept:
        raise UsageError(
            f"suite {suite.name} has no prompts in its {part} part",
            hint=f"it has {len(everything)} in all; change `sampling`",
        )
    return keep(_distinct(suite, attacked(suite, kept))) if suite.attacks else kept


def _read(suite: Suite) -> Sequence[Prompt] | Iterator[Prompt]:
    if suite.prompts.kind == "generator":
        return _generated(suite)
    if suite.prompts.kind == "rules":
        return rule_prompts(suite)
    return _of_rows(suite)


def _of_rows(suite: Suite) -> Iterator[Prompt]:
    plain = plain_prompt(suite)
    for number, row in enumerate(read_rows(suite), start=1):
        prompt = plain(row.cells)
        if prompt is None:
            yield from _of_row(suite, number, row)
        else:
            yield prompt


def _of_row(suite: Suite, number: int, row: Row) -> tuple[Prompt, ...]:
    try:
        prompts = prompts_of(suite, number, row)
        for p in prompts:
            "".join(
                (p.item_id, p.text, p.slice, p.cluster, p.reference, *p.choices, p.prefill, p.system or "")
            ).encode()
    except (ValueError, RecursionError) as error:  # half a character, NaN, or a structure without end
        raise row.refuse(f"cannot be used: {error}") from error
    return prompts


def _generated(suite: Suite) -> tuple[Prompt, ...]:
    generator: PromptGenerator = load("prompts", suite.prompts.location)  # type: ignore[assignment]
    seed, count = suite.prompts.options["seed"], suite.prompts.options["count"]
    return generator.prompts(_integer(seed), _integer(count))


def _integer(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"expected a whole number, found {value!r}")
    return value


def _check(suite: Suite, prompts: Sequence[Prompt]) -> None:
    if suite.evaluator == LIKELIHOOD and any(len(p.choices) < 2 for p in prompts):
        raise UsageError(f"suite {suite.name}: the evaluator likelihood needs choices, and its prompts have none")
    if two := leaked(prompts, suite.sampling):
        raise UsageError(
            f"suite {suite.name}: items {two[0].item_id} and {two[1].item_id} ask the same, and only one is sealed",
            hint="give them the same cluster, or leave one out",
        )


def _distinct(suite: Suite, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    """Yield prompts; refuse one with the id of another."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.item_id in seen:
            raise UsageError(f"suite {suite.name} has items with the same id: {prompt.item_id}")
        seen.add(prompt.item_id)
        yield prompt


def _check_labels(suite: Suite) -> None:
    """Refuse a metric over a label that nobody gives: its rate would be 0 for any model."""
    try:
        judge: Judge = load("judge", suite.judge.name, suite.judge.options)  # type: ignore[assignment]
    except UsageError:
        return  # said once, where the plugins are surveyed
    shown = {control.label for control in judge.controls}
    if not shown and suite.prompts.kind == _ENGINE:
        return  # another tool's labels, which nobody here has seen; a gate does not rely on them
    for metric in suite.metrics:
        for label in metric.counts:
            if label not in shown | {UNJUDGED, INCOHERENT}:
                raise UsageError(
                    f'suite {suite.name}: metric {metric.name} counts the label "{label}", which the judge '
                    f"{suite.judge.name} does not show in its controls; it shows: {', '.join(sorted(shown))}"
                )


def suite_fact(suite: Suite, load_it: Load = load_prompts) -> Fact:
    """Return what a plan needs to know of a suite: identity, items and clusters of what a gate reads, or the problem.

    The identity follows the definition, the very prompts, and the versions of the attacks. It never raises.
    """
    try:
        _check_labels(suite)
        if suite.prompts.kind == _ENGINE:
            return _foreign_fact(suite)
        prompts = load_it(suite, SEALED)
        parts: dict[str, JSON] = {"definition": suite.digest, "prompts": _digest(prompts)}
        told = _calibration(suite)
        parts |= _card_part(told)
        if suite.attacks:
            parts["attacks"] = attack_versions(suite)
    except SafetuneError as error:
        return Fact(suite.name, "", None, f"{error.message}{f'; {error.hint}' if error.hint else ''}")
    clusters, slices = _sizes(prompts)
    note = _note(suite, len(prompts))
    return Fact(suite.name, digest(parts), len(prompts), "", note, clusters, slices, told)


def _sizes(prompts: Sequence[Prompt]) -> tuple[int, Mapping[str, tuple[int, int]]]:
    """Return how many clusters there are, and how many items and clusters each slice has; no name is no slice."""
    counts: Counter[tuple[str, str]] = Counter(
        (place, cluster or item_id) for item_id, _, place, cluster, *_ in cells(prompts)
    )
    found: dict[str, tuple[int, int]] = {}
    for (place, _), n in counts.items():
        items, groups = found.get(place, (0, 0))
        found[place] = (items + n, groups + 1)
    found.pop("", None)
    return len({cluster for _, cluster in counts}), dict(sorted(found.items()))


def _digest(prompts: Sequence[Prompt]) -> str:
    """Return the digest of the list of all prompts as canonical JSON, made of one after the other."""
    seen, before = hashlib.sha256(b"["), ""
    for item_id, text, place, cluster, reference, choices, prefill, system in cells(prompts):
        listed = ",".join(map(json_text, choices))
        row = (
            f'{before}{{"choices":[{listed}],"cluster":{json_text(cluster)},"item_id":{json_text(item_id)},'
            f'"prefill":{json_text(prefill)},"reference":{json_text(reference)},"slice":{json_text(place)},'
            f'"system":{"null" if system is None else json_text(system)},"text":{json_text(text)}}}'
        )
        seen.update(row.encode())
        before = ","
    seen.update(b"]")
    return seen.hexdigest()


def _calibration(suite: Suite) -> Mapping[str, JSON] | None:
    """Return what evidence will tell of the judge's error; the model that a card is about is looked at later.

    Raises:
        UsageError: when the suite's card cannot be used.
    """
    try:
        judge: AnyJudge = load("judge", suite.judge.name, suite.judge.options)  # type: ignore[assignment]
    except UsageError:
        return None  # said once, where the plugins are surveyed
    return calibration(judge, own_card(suite, judge))


def _card_part(told: Mapping[str, JSON] | None) -> dict[str, JSON]:
    """Return what a card adds to the identity of a suite: another card may give another verdict."""
    return {"card": told["digest"]} if told and "digest" in told else {}


def _foreign_fact(suite: Suite) -> Fact:
    """Return what is known of a suite that another tool runs: how many items it will have, where the suite says so."""
    from safetune.engine.foreign_suites import foreign_problem, tool_of  # here, since most plans know no such suite

    expected = suite.prompts.options.get("expected")
    size = expected if isinstance(expected, int) and not isinstance(expected, bool) else None
    problem, note = foreign_problem(suite), f"{suite.prompts.location} asks the model itself"
    if problem:
        return Fact(suite.name, "", size, problem, note)
    told = _calibration(suite)
    parts: dict[str, JSON] = {"definition": suite.digest, "tool": tool_of(suite), **_card_part(told)}
    return Fact(suite.name, digest(parts), size, note=note, calibration=told)


def _note(suite: Suite, size: int) -> str:
    """Say what of the suite a gate reads, and whether that is less than the suite itself asks for."""
    sealed = f"a gate reads the sealed {size}" if suite.sampling.sealed > 0 else ""
    few = f"{size} items, the suite asks for {suite.about.min_samples}" if size < suite.about.min_samples else ""
    return "; ".join(part for part in (sealed, few) if part)
