"""Which requests are answered together."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from safetune.worker.asking import LIKELIHOOD, Asked
from safetune.worker.batching import Budget, batches


def asked(number: int, ids: tuple[int, ...], limit: int = 8, header: str = "") -> Asked:
    return Asked(f"{number:04d}", ids, limit, header=header)


@st.composite
def requests(draw: st.DrawFn) -> list[Asked]:
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=40))
    return [
        asked(n, tuple(range(length)), draw(st.sampled_from([4, 16])), draw(st.sampled_from("ab")))
        for n, length in enumerate(lengths)
    ]


@given(requests(), st.integers(1, 9), st.integers(20, 400))
def test_every_request_is_in_one_batch_and_no_batch_is_above_its_budget(
    asked: list[Asked], rows: int, tokens: int
) -> None:
    made = batches(asked, Budget(rows, tokens))

    assert sorted(one.digest for batch in made for one in batch.rows) == [one.digest for one in asked]
    for batch in made:
        assert len(batch.rows) <= rows
        assert len(batch.rows) == 1 or len(batch.rows) * max(one.room for one in batch.rows) <= tokens
        assert all(one.ids[: len(batch.shared)] == batch.shared for one in batch.rows)
        assert all(len(one.ids) > len(batch.shared) for one in batch.rows)


@given(requests(), st.integers(1, 9), st.integers(0, 99))
def test_batches_do_not_depend_on_the_order_of_the_requests(asked: list[Asked], rows: int, seed: int) -> None:
    mixed = list(asked)
    random.Random(seed).shuffle(mixed)

    assert batches(mixed, Budget(rows, 10**6)) == batches(asked, Budget(rows, 10**6))


def test_the_longest_answers_and_then_the_longest_prompts_come_first() -> None:
    made = batches([asked(n, (n, *range(n * 7 % 10)), 4 if n % 2 else 8) for n in range(9)], Budget(3, 10**6))

    found = [(one.max_new_tokens, len(one.ids)) for batch in made for one in batch.rows]
    assert found == sorted(found, reverse=True)
    assert [len(batch.rows) for batch in made] == [3, 3, 3]


def test_a_beginning_that_several_share_is_found_and_leaves_each_a_token() -> None:
    header = (7, 7, 7, 7, 7)
    made = batches([asked(n, (*header, *range(n))) for n in range(1, 6)], Budget(8, 10**6))

    assert [(batch.shared, len(batch.rows)) for batch in made] == [(header, 5)]


def test_families_that_fill_half_a_batch_have_batches_of_their_own() -> None:
    rows = [asked(n, (*[n % 2] * 5, n, 9), header=str(n % 2)) for n in range(8)]

    assert [(batch.shared, len(batch.rows)) for batch in batches(rows, Budget(8, 10**6))] == [
        ((0,) * 5, 4),
        ((1,) * 5, 4),
    ]


def test_small_families_fill_a_batch_together() -> None:
    made = batches([asked(n, (7, 7, 7, 7, n, n, n, 5), header=str(n)) for n in range(12)], Budget(16, 10**6))

    assert [(batch.shared, len(batch.rows)) for batch in made] == [((7, 7, 7, 7), 12)]


def test_a_row_of_likelihood_counts_its_choices() -> None:
    rows = [Asked(str(n), (n, 1), 0, LIKELIHOOD, choices=((1,), (2,), (3,))) for n in range(4)]

    assert [len(batch.rows) for batch in batches(rows, Budget(6, 10**6))] == [2, 2]


def test_kinds_are_never_mixed() -> None:
    mixed = [asked(1, (5, 6)), Asked("2", (5, 6), 0, LIKELIHOOD, choices=((1,),))]

    assert [{one.kind for one in batch.rows} for batch in batches(mixed, Budget(8, 10**6))] == [
        {"generate"},
        {"likelihood"},
    ]
