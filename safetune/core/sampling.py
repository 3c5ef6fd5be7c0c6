"""Which items of a suite are used: chosen by digest, so that the choice is the same everywhere and lasts.

A cluster is kept or left as a whole, and lies on one side of the sealed split as a whole: variants of one prompt in
both parts would let the sealed part leak into the open one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from safetune.core.digest import digest
from safetune.core.evidence import Prompt
from safetune.core.suite import Sampling

ALL, OPEN, SEALED = "all", "open", "sealed"
PARTS = (ALL, OPEN, SEALED)

_RANGE = 16**64  # how many SHA-256 values there are


def cluster_key(prompt: Prompt) -> str:
    """Return what a prompt is counted by: its cluster, or its own id where it has none."""
    return prompt.cluster or prompt.item_id


def _sampling_key(prompt: Prompt) -> str:
    """Return what a prompt's place is drawn by: its cluster, or what it asks, so that suites on one file agree."""
    return prompt.cluster or _asked(prompt)


def _asked(prompt: Prompt) -> str:
    """Return what a prompt asks, as a digest; capitals and spaces do not make it another one."""
    words = " ".join("\n".join((prompt.text, *prompt.choices)).casefold().split())
    return blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def choose(prompts: Sequence[Prompt], sampling: Sampling, part: str = ALL) -> tuple[Prompt, ...]:
    """Return the prompts of one part, as `chosen` does, all at once."""
    return tuple(chosen(prompts, sampling, part))


def chosen(prompts: Sequence[Prompt], sampling: Sampling, part: str = ALL) -> Iterable[Prompt]:
    """Return the prompts of one part, in their order.

    `sample` keeps the clusters with the smallest digests; what is kept is then split, so that `open` and `sealed`
    together are `all` and have no cluster in common. Without a sealed share every part is `all`.

    Raises:
        ValueError: for a part that does not exist.
    """
    if part not in PARTS:
        raise ValueError(f"no part of a suite is called {part!r}")
    if sampling.sample <= 0 and (part == ALL or sampling.sealed <= 0):
        return prompts
    keys = dict.fromkeys(_sampling_key(prompt) for prompt in prompts)
    if 0 < sampling.sample < len(keys):
        keys = dict.fromkeys(sorted(keys, key=lambda key: _place("sample", sampling.seed, key))[: sampling.sample])
    if part != ALL and sampling.sealed > 0:
        keys = {key: None for key in keys if is_sealed(key, sampling) == (part == SEALED)}
    return (prompt for prompt in prompts if _sampling_key(prompt) in keys)


def is_sealed(key: str, sampling: Sampling) -> bool:
    """Say whether a cluster is among those that only gates read; it depends on nothing but its key and the settings."""
    return _place("sealed", sampling.seed, key) < sampling.sealed


def _place(purpose: str, seed: int, key: str) -> float:
    """Return a number in [0, 1). The two purposes have their own, else a sample would be the sealed part."""
    return int(digest([purpose, seed, key]), 16) / _RANGE


def in_order(keys: Iterable[str], name: Callable[[str], str] | None = None) -> tuple[str, ...]:
    """Return the distinct cluster keys in the order of their digests, which nothing observed has chosen.

    The digest has a purpose of its own, so that the order has nothing to do with what is sampled or sealed. `name`
    gives what the digest is of, where a key says more than that. What is asked and what is tested must have one order:
    else every look would shuffle the items anew, and the test would not be sequential.
    """
    distinct = dict.fromkeys(keys)
    if name is None:
        return tuple(sorted(distinct, key=_turn))
    return tuple(sorted(distinct, key=lambda key: (_turn(name(key)), key)))


def _turn(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, person=b"order").digest()


def leaked(prompts: Sequence[Prompt], sampling: Sampling) -> tuple[Prompt, Prompt] | None:
    """Return two prompts that ask the same and lie on both sides of the sealed split, or None.

    Capitals and spaces do not make a prompt another one.
    """
    if sampling.sealed <= 0:
        return None
    seen: dict[str, int] = {}  # where a prompt is first asked, by digest: the texts of all prompts may be too many
    for n, prompt in enumerate(prompts):
        first = seen.setdefault(_asked(prompt), n)
        sides = {is_sealed(_sampling_key(one), sampling) for one in (prompt, prompts[first])}
        if len(sides) > 1:
            return prompts[first], prompt
    return None
