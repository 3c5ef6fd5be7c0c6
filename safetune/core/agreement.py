"""How far judges agree beyond chance: Cohen's kappa for two, Fleiss' kappa for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

COHEN, FLEISS = "Cohen's kappa", "Fleiss' kappa"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What several judges said of the same responses.

    `observed` is the share of pairs of judges that agree, `kappa` that share corrected for chance. Both are None where
    they are undefined: no responses, or everybody gave one and the same label, so that chance alone agrees fully.
    `left_out` counts responses that not every judge could label; they enter no figure.
    """

    statistic: str
    kappa: float | None
    observed: float | None
    n: int
    members: int
    left_out: int = 0


def agreement(said: Sequence[Sequence[str]], members: int, left_out: int = 0) -> Agreement:
    """Return the agreement of `members` judges; `said` holds, for each response, one label of each of them.

    Raises:
        ValueError: with fewer than two judges, or when a response has not as many labels.
    """
    if members < 2 or any(len(labels) != members for labels in said):
        raise ValueError(f"every response needs one label of each of at least two judges; there are {members}")
    statistic, n = COHEN if members == 2 else FLEISS, len(said)
    if not said:
        return Agreement(statistic, None, None, 0, members, left_out)
    kappa = cohen_kappa([(one, other) for one, other in said]) if members == 2 else fleiss_kappa(said)
    return Agreement(statistic, kappa, _agreeing(said), n, members, left_out)


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return (p_o - p_e) / (1 - p_e) for two judges (Cohen, Educational and Psychological Measurement 1960, 20:37).

    p_o is the share of equal labels, p_e the sum over labels of the product of both judges' shares. None when p_e is 1
    or there are no pairs.
    """
    n = len(pairs)
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    # In whole numbers (p_e times n squared), so that "all by chance" is found exactly.
    chance = sum(first[label] * second[label] for label in first)
    if chance == n * n:
        return None
    same = sum(one == other for one, other in pairs)
    return (n * same - chance) / (n * n - chance)


def fleiss_kappa(said: Sequence[Sequence[str]]) -> float | None:
    """Return (P - P_e) / (1 - P_e) for a fixed number of judges (Fleiss, Psychological Bulletin 1971, 76:378).

    P is the mean share of agreeing pairs for each response, P_e the sum of the squared shares of the labels over all.
    None when P_e is 1 or there are no responses.
    """
    counts = Counter(label for labels in said for label in labels)
    total = sum(counts.values())
    square = sum(count * count for count in counts.values())
    if square == total * total:
        return None
    chance = square / (total * total)
    return (_agreeing(said) - chance) / (1 - chance)


def _agreeing(said: Sequence[Sequence[str]]) -> float:
    """Return the mean share of agreeing pairs of judges."""
    members = len(said[0])
    pairs = members * (members - 1)
    agreeing = sum(count * (count - 1) for labels in said for count in Counter(labels).values())
    return agreeing / (pairs * len(said))
