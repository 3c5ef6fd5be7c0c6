"""Which items of a suite are used: the same everywhere, whole clusters, a sealed part that shares nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.evidence import Prompt
from safetune.core.sampling import ALL, OPEN, SEALED, choose, cluster_key, is_sealed, leaked
from safetune.core.suite import NO_SAMPLING, Sampling

ITEMS = tuple(Prompt(f"i{n:03d}", f"text {n}", cluster=f"c{n // 3}" if n % 2 else "") for n in range(300))
SAMPLINGS = st.builds(
    Sampling,
    sample=st.integers(0, 250),
    sealed=st.one_of(st.just(0.0), st.floats(0.05, 0.95)),
    seed=st.integers(0, 2**32 - 1),
)


FIRST_SEALED = ["i001", "i004", "i010", "i018"]


def keys(prompts: tuple[Prompt, ...]) -> set[str]:
    return {cluster_key(p) for p in prompts}


@given(SAMPLINGS)
def test_open_and_sealed_are_everything_and_have_no_cluster_in_common(sampling: Sampling) -> None:
    both = [choose(ITEMS, sampling, part) for part in (OPEN, SEALED)]
    everything = choose(ITEMS, sampling, ALL)
    if sampling.sealed == 0:
        assert both == [everything, everything]
    else:
        assert keys(both[0]) & keys(both[1]) == set()
        assert sorted((*both[0], *both[1]), key=lambda p: p.item_id) == list(everything)


@given(SAMPLINGS)
def test_clusters_stay_whole_and_the_order_stays(sampling: Sampling) -> None:
    for part in (ALL, OPEN, SEALED):
        kept = choose(ITEMS, sampling, part)
        assert list(kept) == [p for p in ITEMS if cluster_key(p) in keys(kept)]


@given(SAMPLINGS, st.integers(0, 300))
def test_a_cluster_stays_on_its_side_when_rows_come_and_a_sample_only_makes_room(
    sampling: Sampling, first: int
) -> None:
    before, after = ITEMS[:first], ITEMS
    for part in (OPEN, SEALED):
        old, new = keys(choose(before, sampling, part)), keys(choose(after, sampling, part))
        # What has gone was pushed out by a cluster that is new: nothing moves over, nothing comes back.
        assert new & keys(before) <= old
        assert sampling.sealed == 0 or old & keys(choose(after, sampling, SEALED if part == OPEN else OPEN)) == set()


def test_the_sample_caps_clusters_not_items() -> None:
    kept = choose(ITEMS, Sampling(sample=40))
    assert len(keys(kept)) == 40
    assert len(kept) > 40
    assert choose(ITEMS, Sampling(sample=10_000)) == choose(ITEMS, NO_SAMPLING) == ITEMS


def test_the_share_of_sealed_clusters_is_about_what_was_asked_for_also_within_a_sample() -> None:
    many = tuple(Prompt(f"i{n}", str(n)) for n in range(2000))
    assert 0.27 < len(choose(many, Sampling(sealed=0.3), SEALED)) / 2000 < 0.33
    # Were sample and split drawn from one number, the smallest 500 would all be sealed.
    assert 0.22 < len(choose(many, Sampling(sample=500, sealed=0.3), SEALED)) / 500 < 0.38


def test_another_seed_is_another_choice_and_the_same_seed_the_same() -> None:
    one, two = (choose(ITEMS, Sampling(sample=50, sealed=0.5, seed=seed), SEALED) for seed in (1, 2))
    assert one != two
    assert one == choose(ITEMS, Sampling(sample=50, sealed=0.5, seed=1), SEALED)
    # A change of the rule would unseal what gates have read: these are the first sealed items for ever.
    assert [p.item_id for p in choose(ITEMS, Sampling(sealed=0.1), SEALED)][:4] == FIRST_SEALED


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no part of a suite is called 'gate'"):
        choose(ITEMS, NO_SAMPLING, "gate")


def test_equal_prompts_on_both_sides_are_found_whatever_their_capitals_and_spaces() -> None:
    sampling = Sampling(sealed=0.5)
    sealed = next(f"c{n}" for n in range(99) if is_sealed(f"c{n}", sampling))
    opened = next(f"c{n}" for n in range(99) if not is_sealed(f"c{n}", sampling))
    alike = (Prompt("p1", "Say  It", cluster=sealed), Prompt("p2", "say it\n", cluster=opened))
    assert leaked(alike, sampling) == alike
    assert leaked(alike, NO_SAMPLING) is None
    assert leaked((alike[0], Prompt("other", "say it", cluster=sealed)), sampling) is None
    choices = tuple(Prompt(c, "", cluster=c, choices=(c, "b")) for c in (sealed, opened))
    assert leaked(choices, sampling) is None


def test_two_suites_on_one_file_seal_the_same_prompts_whatever_they_call_them() -> None:
    sampling = Sampling(sealed=0.5)
    texts = [f"question {n}" for n in range(200)]
    one = [Prompt(f"one-{n:05d}", text) for n, text in enumerate(texts)]
    two = [Prompt(f"two-{n:05d}", text.upper()) for n, text in enumerate(reversed(texts))]
    sealed = [{p.text.lower() for p in choose(items, sampling, "sealed")} for items in (one, two)]
    assert sealed[0] == sealed[1]
    assert 60 < len(sealed[0]) < 140
