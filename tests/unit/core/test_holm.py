"""Holm's step-down over tests that answer yes or no at a level."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from safetune.core.holm import rejected

P_VALUES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=12)


def _rejected(p_values: list[float], alphas: list[float]) -> frozenset[int]:
    return rejected(lambda i, level: p_values[i] <= level, alphas)


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_it_rejects_what_holm_rejects(p_values: list[float], alpha: float) -> None:
    theirs = multipletests(p_values, alpha, method="holm")[0]
    assert _rejected(p_values, [alpha] * len(p_values)) == {i for i, yes in enumerate(theirs) if yes}


def test_each_rejection_makes_the_next_one_easier() -> None:
    # 0.012 <= 0.05 / 4, then 0.016 <= 0.05 / 3, then 0.024 <= 0.05 / 2; alone, none but the first would pass 0.05 / 4.
    assert _rejected([0.9, 0.024, 0.012, 0.016], [0.05] * 4) == {1, 2, 3}


def test_without_a_first_rejection_nothing_is_rejected() -> None:
    assert _rejected([0.02, 0.02, 0.02], [0.05] * 3) == frozenset()


def test_each_hypothesis_keeps_its_own_level() -> None:
    assert _rejected([0.004, 0.004], [0.05, 0.001]) == {0}
    assert _rejected([0.004, 0.0009], [0.05, 0.001]) == {0, 1}


def test_of_nothing_nothing_is_rejected() -> None:
    assert _rejected([], []) == frozenset()


@given(P_VALUES, st.data())
def test_the_order_of_the_hypotheses_does_not_matter(p_values: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(p_values))))
    alphas = [0.05 / (1 + i % 3) for i in range(len(p_values))]
    found = _rejected([p_values[i] for i in order], [alphas[i] for i in order])
    assert {order[i] for i in found} == _rejected(p_values, alphas)


@given(P_VALUES, st.data())
def test_a_smaller_p_value_never_loses_a_rejection(p_values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(p_values) - 1))
    smaller = [p / 2 if i == place else p for i, p in enumerate(p_values)]
    alphas = [0.05] * len(p_values)
    assert _rejected(p_values, alphas) <= _rejected(smaller, alphas)
