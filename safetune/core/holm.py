"""Holm's step-down: which of several hypotheses are rejected when one false rejection is already too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def rejected(fails: Callable[[int, float], bool], alphas: Sequence[float]) -> frozenset[int]:
    """Return the hypotheses that are rejected, by their place in `alphas`.

    `fails(i, level)` says whether hypothesis i is refuted at that error level; what it refutes at one level it must
    refute at every larger one. With m hypotheses left, each is tested at its alpha / m; those that are refuted leave,
    and the rest is tested again, less strictly, until none is refuted (Holm, Scandinavian Journal of Statistics 1979,
    6:65). The chance of any false rejection is at most the mean alpha of the true hypotheses, however the tests depend
    on each other: at the first false one, at least as many are left as are true.
    """
    left = list(range(len(alphas)))
    while True:
        kept = [i for i in left if not fails(i, alphas[i] / len(left))]
        if len(kept) == len(left):
            return frozenset(range(len(alphas))) - frozenset(kept)
        left = kept
