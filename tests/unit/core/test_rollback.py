"""Where a rollback leads: by example, and against the rules of the ledger for random histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core import events
from safetune.core.errors import UsageError
from safetune.core.events import Draft, Event, GateRecord
from safetune.core.rollback import RollbackChoice, choose_target, find_checkpoint
from safetune.core.standing import Standing, apply

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def _after(standing: Standing, *drafts: Draft) -> Standing:
    for draft in drafts:
        standing = apply(standing, Event(standing.last_seq + 1, "", "", "", draft.kind, draft.data))
    return standing


def _gated(digest: str, attempt: int, verdict: str = "PASS") -> Draft:
    return events.gated(GateRecord("", digest, "", "", "", "", verdict, attempt, "again", ()))


def _promote(standing: Standing, digest: str) -> Standing:
    """Return the standing after one more promotion on `stable`, gated anew if need be."""
    if digest not in standing.checkpoints:
        standing = _after(standing, events.trained((f"key {digest[0]}", "", ""), digest, "", {}))
    standing = _after(standing, _gated(digest, standing.attempts(digest) + 1))
    current = standing.channels["stable"].current if "stable" in standing.channels else ""
    return _after(standing, events.promoted("stable", digest, current, standing.last_seq, ""))


def _promoted(*digests: str) -> Standing:
    standing = Standing()
    for digest in digests:
        standing = _promote(standing, digest)
    return standing


def _carry_out(standing: Standing, choice: RollbackChoice) -> Standing:
    move = (choice.channel, choice.previous, choice.target)
    return _after(standing, events.rolled_back(move, "why", "a person", choice.quarantined))


def test_one_step_back() -> None:
    choice = choose_target(_promoted(A, B), "stable")
    assert (choice.previous, choice.target, choice.quarantined) == (B, A, (B,))
    assert choice.why == "the last promotion before the current one that still stands"
    assert not choice.already_there


def test_a_second_identical_call_is_already_there() -> None:
    standing = _promoted(A, B, C)
    standing = _carry_out(standing, choose_target(standing, "stable"))
    again = choose_target(standing, "stable")
    assert again.already_there
    assert (again.target, again.quarantined) == (B, ())


def test_after_a_new_promotion_one_step_back_is_possible_again() -> None:
    standing = _promoted(A, B, C)
    standing = _promote(_carry_out(standing, choose_target(standing, "stable")), D)
    assert choose_target(standing, "stable").target == B


def test_a_named_target_takes_everything_after_it_along() -> None:
    choice = choose_target(_promoted(A, B, C), "stable", "aaaaaa")
    assert (choice.target, choice.quarantined) == (A, (B, C))
    assert choice.why == "named by --to aaaaaa"


def test_the_current_checkpoint_is_already_there() -> None:
    assert choose_target(_promoted(A, B), "stable", B).already_there


def test_a_checkpoint_promoted_twice_is_reached_at_its_last_promotion() -> None:
    choice = choose_target(_promoted(A, B, A, C), "stable", A)
    assert (choice.target, choice.quarantined) == (A, (C,))


def test_the_same_checkpoint_again_is_no_step_back() -> None:
    assert choose_target(_promoted(A, B, B), "stable").target == A


def test_a_checkpoint_whose_last_gate_failed_is_passed_over() -> None:
    standing = _after(_promoted(A, B, C), _gated(B, 2, "FAIL"))
    choice = choose_target(standing, "stable")
    assert (choice.target, choice.quarantined) == (A, (B, C))
    with pytest.raises(UsageError, match="failed its last gate") as caught:
        choose_target(standing, "stable", B)
    assert "safetune evaluate" in caught.value.hint


@pytest.mark.parametrize(
    ("standing", "channel", "to", "message"),
    [
        (Standing(), "stable", "", "no channel is called stable; known: none"),
        (_promoted(A), "canary", "", "no channel is called canary; known: stable"),
        (_promoted(A), "stable", "", "has nothing to go back to before aaaaaaaaaaaa; it stays there"),
        (_promoted(A), "stable", "bbbbbb", "no checkpoint starts with 'bbbbbb'"),
        (_promoted(A), "stable", "aaaaa", "at least 6 digits"),
        (
            _after(_promoted(A), events.trained(("k", "", ""), B, "", {})),
            "stable",
            B,
            "bbbbbbbbbbbb is not an earlier promotion of channel stable",
        ),
    ],
)
def test_what_cannot_be_chosen_is_said(standing: Standing, channel: str, to: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_target(standing, channel, to)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_prefix_must_name_one_checkpoint() -> None:
    near = A[:20] + B[20:]
    standing = _promoted(A, near)
    assert find_checkpoint(standing, A[:20] + "a") == A
    with pytest.raises(UsageError, match="is ambiguous: aaaaaaaaaaaa, aaaaaaaaaaaa"):
        find_checkpoint(standing, A[:20])
    with pytest.raises(UsageError, match="cannot export it"):
        find_checkpoint(standing, "ffffff", "export")


@given(
    st.lists(st.sampled_from((A, B, C, D)), min_size=1, max_size=7),
    st.lists(st.sampled_from(("", A, B, C, D, "promote", "fail")), max_size=6),
)
def test_every_choice_can_be_carried_out_and_leaves_nothing_bad_current(first: list[str], then: list[str]) -> None:
    standing = _promoted(*first)
    for step in then:
        if step == "promote":
            standing = _promote(standing, first[0])
            continue
        if step == "fail":
            standing = _after(standing, _gated(first[-1], standing.attempts(first[-1]) + 1, "FAIL"))
            continue
        before = standing.channels["stable"].current
        try:
            choice = choose_target(standing, "stable", step)
        except UsageError:
            continue
        assert choice.previous == before
        assert choice.target not in choice.quarantined
        if choice.already_there:
            assert choice.target == before
            continue
        standing = _carry_out(standing, choice)  # the ledger accepts it
        assert standing.channels["stable"].current == choice.target
        assert standing.may_return_to(choice.target)
        assert choose_target(standing, "stable").already_there
        assert all(standing.checkpoints[d].status == "quarantined" for d in choice.quarantined)


def test_where_only_withdrawn_data_is_left_a_hand_must_take_it_out_of_service() -> None:
    standing = _promoted(A)
    gone = replace(standing.checkpoints[A], withdrawn_at=9)
    for found, hint in ((standing, "safetune log"), (replace(standing, checkpoints={A: gone}), "out of service")):
        with pytest.raises(UsageError, match="nothing to go back to") as raised:
            choose_target(found, "stable")
        assert hint in raised.value.hint
