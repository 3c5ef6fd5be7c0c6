"""What the always-valid tests do over 10,000 trials, and how many items they use: the figures of docs/statistics.md.

`python -m pytest -m slow -s` on this file prints the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from safetune.core.power import min_n_absolute
from safetune.core.sequential import Cluster, Decided, Question, expected_items, follow

pytestmark = pytest.mark.slow

TRIALS, ALPHA, LOOKS = 10_000, 0.05, 20
MOST = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)
LIMITS = (0.05, 0.10, 0.20)
VARIANTS, CORRELATION = 16, 0.2

Draw = Callable[[np.random.Generator], list[Cluster]]


def independent(rate: float, n: int = 400) -> Draw:
    """Items that are events with chance `rate`."""
    return lambda rng: [(int(one), 1) for one in rng.random(n) < rate]


def clustered(rate: float, clusters: int = 60) -> Draw:
    """Clusters of 16 variants with intra-class correlation .2: beta-binomial."""
    a, b = (share * (1 / CORRELATION - 1) for share in (rate, 1 - rate))
    return lambda rng: [(int(one), VARIANTS) for one in rng.binomial(VARIANTS, rng.beta(a, b, clusters))]


def unequal(rate: float, clusters: int = 120) -> Draw:
    """Clusters of 1, 4 or 16 whose larger ones have more events, while the rate over all items is `rate`."""
    sizes, factors = np.array((1, 4, 16)), np.array((0.2, 0.5, 1.175))
    assert math.isclose(float((sizes * factors).sum()), float(sizes.sum()))

    def draw(rng: np.random.Generator) -> list[Cluster]:
        kinds = rng.integers(0, 3, clusters)
        events = rng.binomial(sizes[kinds], rate * factors[kinds])
        return [(int(event), int(sizes[kind])) for event, kind in zip(events, kinds, strict=True)]

    return draw


def paired(change: float, discordant: float, n: int = 400) -> Draw:
    """Changes of -1, 0 and 1 with mean `change`."""
    shares = ((discordant - change) / 2, 1 - discordant, (discordant + change) / 2)
    return lambda rng: [(int(one), 1) for one in rng.choice((-1, 0, 1), n, p=shares)]


def scored(mean: float, n: int = 400) -> Draw:
    """Scores in [0, 1], most of them near the ends."""
    return lambda rng: [(float(one), 1) for one in rng.beta(mean, 1 - mean, n)]


def trials(draw: Draw, question: Question, times: int = TRIALS) -> Iterator[Decided]:
    """Yield what each of many trials shows."""
    rng = np.random.default_rng(20_261_124)
    return (follow(draw(rng), question) for _ in range(times))


def _asking(limit: float, largest: int = 1) -> Question:
    return Question(limit, ALPHA, ALPHA, largest=largest)


def _paired_asking(margin: float) -> Question:
    return Question(margin, ALPHA, ALPHA, (-1.0, 1.0))


AT_THE_LIMIT = [
    *((f"independent, limit {limit}", independent(limit), _asking(limit)) for limit in LIMITS),
    *((f"clustered, limit {limit}", clustered(limit), _asking(limit, VARIANTS)) for limit in LIMITS),
    ("unequal clusters, limit 0.1", unequal(0.1), _asking(0.1, VARIANTS)),
    ("paired, margin 0.05, 10 % differ", paired(0.05, 0.1), _paired_asking(0.05)),
    ("paired, margin 0.05, 30 % differ", paired(0.05, 0.3), _paired_asking(0.05)),
    ("scores, limit 0.1", scored(0.1), _asking(0.1)),
]


@pytest.mark.parametrize(("name", "draw", "question"), AT_THE_LIMIT, ids=[name for name, *_ in AT_THE_LIMIT])
def test_with_the_truth_at_the_limit_neither_side_is_shown_more_than_alpha_often(
    name: str, draw: Draw, question: Question
) -> None:
    below = above = outside = 0
    for found in trials(draw, question):
        below += found.below is not None
        above += found.above is not None
        outside += found.p_below <= ALPHA or found.p_above <= ALPHA
    print(f"\n{name:36} below {below / TRIALS:.4f}  above {above / TRIALS:.4f}  (at most {MOST:.4f})")
    assert below / TRIALS <= MOST
    assert above / TRIALS <= MOST
    assert outside == below + above
    assert below + above > 0, "a test that shows nothing would hold this, too"


def test_looking_twenty_times_shows_what_looking_at_every_item_shows() -> None:
    rng, draw, question = np.random.default_rng(5), independent(0.07), _asking(0.1)
    decided = 0
    for _ in range(300):
        clusters = draw(rng)
        looks = [follow(clusters[: len(clusters) * look // LOOKS], question) for look in range(1, LOOKS + 1)]
        shown = [look for look in looks if look.below or look.above]
        decided += bool(shown)
        assert all(look == looks[-1] for look in shown)
    assert decided > 100


def fixed_n(limit: float, truth: float) -> int:
    """Return the n with which a test for a fixed n shows the truth's side of the limit with 80 % power."""
    mirrored = truth > limit
    n = min_n_absolute(1 - limit if mirrored else limit, 1 - truth if mirrored else truth, 1 - ALPHA)
    assert n is not None
    return n


def wald(limit: float, truth: float, miss: float = 0.2) -> float:
    """Return what Wald's test of the limit against this one truth uses on average, were the truth so: no test that
    errs as seldom uses less (Wald and Wolfowitz 1948). It knows the truth beforehand, and gives up on others."""
    gain = truth * math.log(truth / limit) + (1 - truth) * math.log((1 - truth) / (1 - limit))
    return ((1 - miss) * math.log((1 - miss) / ALPHA) + miss * math.log(miss / (1 - ALPHA))) / gain


def usage() -> list[tuple[float, float, int, float, list[tuple[int, int | None, float]]]]:
    """Return limit, truth, fixed n, Wald's mean, and for each planned n: it, the median of items and the power."""
    rows = []
    for limit in LIMITS:
        for truth in (limit / 2, limit * 2):
            n = fixed_n(limit, truth)
            looks = []
            for planned in (n, 400, 1000):
                found = expected_items(_asking(limit), truth, planned)
                power = found.below if truth < limit else found.above
                looks.append((planned, found.median, power))
            rows.append((limit, truth, n, wald(limit, truth), looks))
    return rows


def test_items_used_when_the_truth_is_twice_or_half_the_limit() -> None:
    print("\nlimit truth  Wald/fixed   planned n: median items (share of n), power")
    for limit, truth, n, least, looks in usage():
        cells = [
            f"{planned}: {'-' if median is None else f'{median} ({median / planned:.0%})'}, {power:.0%}"
            for planned, median, power in looks
        ]
        print(f"{limit:5} {truth:5} {least:5.0f}/{n:<4} {least / n:4.0%}   {'   '.join(cells)}")
        # Not even the best test for this one truth, known beforehand, uses 40 % of what a fixed n needs.
        assert least > 0.4 * n
        # A suite of 1,000 is decided within 40 % of it, whichever truth it is.
        planned, median, power = looks[-1]
        assert median is not None
        assert median <= 0.4 * planned
        assert power > 0.9


# Clusters of 16 are worth 1 + 15 * .2 = 4 times fewer items. Bets on a low mean are bounded by the limit per cluster,
# so below a small limit this can take more than a test for a fixed n that is told the correlation.
EFFECT = 1 + (VARIANTS - 1) * CORRELATION
CLUSTERED = [
    (f"clustered, limit {limit}, truth {truth}", clustered(truth, 300), _asking(limit, VARIANTS), fixed_n(limit, truth))
    for limit in LIMITS
    for truth in (limit / 2, limit * 2)
]
PAIRED = [
    (f"paired, margin {margin}, change {change}, {discordant:.0%} differ", margin, change, discordant)
    for margin, change, discordant in ((0.05, 0.0, 0.1), (0.1, 0.0, 0.1), (0.1, 0.0, 0.3), (0.1, 0.2, 0.3))
]


def test_items_used_by_clusters_and_pairs() -> None:
    print()
    cases = [(name, draw, question, EFFECT * n) for name, draw, question, n in CLUSTERED]
    for name, margin, change, discordant in PAIRED:
        # The textbook's pairs for 80 % power (Liu et al. 2002), for a change on either side of the margin.
        pairs = (discordant - change**2) * ((1.645 + 0.842) / (margin - change)) ** 2
        cases.append((name, paired(change, discordant, 1000), _paired_asking(margin), pairs))
    for name, draw, question, fixed in cases:
        found = list(trials(draw, question, 1000))
        median = float(np.median([one.items for one in found]))
        decided = sum(one.below is not None or one.above is not None for one in found) / len(found)
        print(f"{name:44} median {median:.0f}, fixed n {fixed:.0f} ({median / fixed:.0%}), decided {decided:.0%}")
        assert decided > 0.5
        assert median < 2 * fixed


@pytest.mark.parametrize(("limit", "truth"), [(0.05, 0.02), (0.1, 0.2), (0.2, 0.2)])
def test_the_outlook_is_what_simulation_gives(limit: float, truth: float) -> None:
    question, n = _asking(limit), 300
    found = list(trials(independent(truth, n), question, 4000))
    outlook = expected_items(question, truth, n)
    for share, chance in (
        (sum(one.below is not None for one in found) / len(found), outlook.below),
        (sum(one.above is not None for one in found) / len(found), outlook.above),
    ):
        assert abs(share - chance) <= 4 * math.sqrt(max(chance * (1 - chance), 1e-4) / len(found))
    assert abs(np.mean([one.items for one in found]) - outlook.mean) < 4 * n / 2 / math.sqrt(len(found))
