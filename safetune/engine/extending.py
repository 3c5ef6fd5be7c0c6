"""Extending a gate that could not decide: more clusters of a sampled suite, with those it saw already among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from safetune.core.digest import short
from safetune.core.errors import UsageError
from safetune.core.sampling import cluster_key
from safetune.core.standing import CheckpointStanding
from safetune.core.verdict import Verdict
from safetune.engine.measure import Measured, read_suites

_EXAMPLE = "--extend SUITE=N, with N the clusters to ask in all"


def sizes_of(words: Sequence[str]) -> Mapping[str, int]:
    """Return how many clusters to ask of which suite, from words like `harmless=400`.

    Raises:
        UsageError: for a word that says something else, or a suite named twice.
    """
    found: dict[str, int] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not name or not number.isascii() or not number.isdigit() or not int(number[:10]) > 0:
            raise UsageError(f"{word!r} does not say how far to extend which suite", hint=_EXAMPLE)
        if name in found:
            raise UsageError(f"suite {name} is extended twice", hint=_EXAMPLE)
        found[name] = int(number[:10])
    return found


def check_extendable(checkpoint: str, known: CheckpointStanding) -> None:
    """Refuse to extend anything but a gate that could not decide.

    Raises:
        UsageError: for a recorded FAIL, which is not a lack of data, a PASS, an ERROR, and what was never gated.
    """
    if not known.gates:
        raise UsageError(f"checkpoint {short(checkpoint)} was not gated yet", hint="leave out --extend")
    last = known.gates[-1]
    why = {
        Verdict.FAIL: "a FAIL is not a lack of data, and it is final",
        Verdict.PASS: "there is nothing more to find out",
        Verdict.ERROR: "more items do not mend a measurement; once the cause is mended: --gate --reason",
    }.get(last.verdict)
    if why:
        raise UsageError(
            f"the last gate of {short(checkpoint)} said {last.verdict} (ledger line {last.seq}): {why}",
            hint="only INCONCLUSIVE can be extended",
        )


def kept_text(sizes: Mapping[str, int]) -> str:
    """Return what a gate that is asked again says of suites that an earlier gate extended; empty when none was."""
    told = ", ".join(f"suite {name} is asked {size} clusters" for name, size in sizes.items())
    return f"{told}, as an earlier gate of this checkpoint: it is never asked less" if told else ""


def extend(
    measured: Sequence[Measured], wanted: Mapping[str, int], before: Mapping[str, int]
) -> tuple[tuple[Measured, ...], Mapping[str, int]]:
    """Return the suites of a gate with more items, and the size of each that is larger than in the playbook.

    `before` are the largest sizes of earlier gates, which stay: what was seen once is seen again.

    Raises:
        UsageError: for a suite that is not one of the gate's, or has no more items.
    """
    known = {m.suite.name for m in measured}
    if strangers := sorted(set(wanted) - known):
        raise UsageError(f"suite {strangers[0]} is not one of this gate's: {', '.join(sorted(known))}", hint=_EXAMPLE)
    planned = {m.suite.name: m.suite.sampling.sample for m in measured}
    before = {name: size for name, size in before.items() if 0 < planned.get(name, 0) < size}
    return tuple(_extended(m, wanted, before) for m in measured), {**before, **wanted}


def _extended(found: Measured, wanted: Mapping[str, int], before: Mapping[str, int]) -> Measured:
    """Return one suite as it is asked now; only upwards, and only where there is more to ask."""
    name = found.suite.name
    earlier = _of_size(found, before[name]) if name in before else found
    if name not in wanted:
        return earlier
    asked = earlier.suite.sampling.sample
    if 0 < wanted[name] < asked:
        raise UsageError(f"suite {name} is asked {asked} clusters already; extending is upwards", hint=_EXAMPLE)
    now = _of_size(found, wanted[name])
    there = _clusters(now)
    if asked <= 0 or there <= _clusters(earlier):
        raise UsageError(f"suite {name} has no more items", hint="the n that a gate needs stands in its table")
    if there < wanted[name]:
        raise UsageError(f"suite {name} has {there} clusters, not {wanted[name]}: say {name}={there}", hint=_EXAMPLE)
    return now


def _of_size(found: Measured, size: int) -> Measured:
    """Return a suite with a larger sample; the smaller one is part of it, because clusters are kept by digest."""
    larger = replace(found.suite, sampling=replace(found.suite.sampling, sample=size))
    return read_suites((larger,), gate=True)[0]


def _clusters(found: Measured) -> int:
    return len({cluster_key(prompt) for prompt in found.prompts})
