"""Figures of the screening experiment: how well scores rank planted rows, and what an arm lost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_RESAMPLES = 2000
_TAKEN = 0.1  # the share of rows that is taken out


def flagged(scores: Sequence[float]) -> list[int]:
    """Return the places of the tenth of all rows with the highest scores, the earlier first among equals."""
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], n))
    return order[: math.ceil(_TAKEN * len(scores))]


def recall(scores: Sequence[float], planted: Sequence[bool]) -> float:
    """Return the share of planted rows among that tenth."""
    return sum(planted[n] for n in flagged(scores)) / sum(planted)


def auroc(scores: Sequence[float], planted: Sequence[bool]) -> float:
    """Return the chance that a planted row is above a clean one; equal scores count half."""
    return float(_above(scores, planted).mean())


def auroc_interval(scores: Sequence[float], planted: Sequence[bool]) -> tuple[float, float]:
    """Return a 95 % percentile interval: planted and clean rows are drawn anew, each among themselves."""
    above = _above(scores, planted)
    chance = np.random.default_rng(0)
    found = []
    for _ in range(_RESAMPLES):
        rows = chance.integers(0, above.shape[0], above.shape[0])
        columns = chance.integers(0, above.shape[1], above.shape[1])
        found.append(above[np.ix_(rows, columns)].mean())
    return _middle(found)


def _above(scores: Sequence[float], planted: Sequence[bool]) -> np.ndarray:
    values, bad = np.asarray(scores, dtype=float), np.asarray(planted, dtype=bool)
    difference = values[bad][:, None] - values[~bad][None, :]
    return np.where(difference > 0, 1.0, np.where(difference == 0, 0.5, 0.0))


def difference(one: Sequence[Sequence[bool]], other: Sequence[Sequence[bool]]) -> tuple[float, float, float]:
    """Return the difference in rate of two arms, seeds by prompts, with a 95 % interval: prompts are drawn anew.

    A prompt keeps its answers of all seeds. The seeds are taken as they are: the interval says nothing of other ones.
    """
    paired = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    by_prompt = paired.mean(axis=0)
    chance = np.random.default_rng(0)
    drawn = by_prompt[chance.integers(0, len(by_prompt), (_RESAMPLES, len(by_prompt)))].mean(axis=1)
    return (float(by_prompt.mean()), *_middle(list(drawn)))


def _middle(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
