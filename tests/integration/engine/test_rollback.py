"""`safetune rollback`, and the way back for a checkpoint that was rolled back."""

from __future__ import annotations

from typing import Any

import pytest

STRICTER = {"name": "stricter", "suite": "asks", "metric": "refusal_rate", "at_most": 0.4, "why": "it must answer"}


def promoted(lab: Any) -> tuple[str, str]:
    first, second = (event["data"]["checkpoint"] for event in lab.events("promoted"))
    return first, second


def test_a_dry_run_verifies_and_changes_nothing(lab: Any) -> None:
    first, second = promoted(lab)
    before = lab.kinds()
    done = lab.watched("rollback", "--dry-run", "--json")
    assert done.code == 0
    found = done.json
    assert (found["previous"], found["target"]) == (second, first)
    assert (found["moved"], found["dry_run"], found["line"]) == (False, True, 0)
    assert found["quarantined"] == [second]
    assert found["verified_objects"] == 1
    assert found["verified_bytes"] > 10_000
    assert lab.do("rollback", "--dry-run").says("WOULD ROLL BACK", "nothing was written")
    assert lab.kinds() == before
    assert lab.current() == second


def test_a_rollback_moves_the_channel_once(lab: Any) -> None:
    first, second = promoted(lab)
    done = lab.watched("rollback", "stable", "--reason", "complaints")
    assert done.code == 0
    assert done.says("ROLLED BACK", first[:12], second[:12], "every file has the digest", "not undone", "set aside")
    assert lab.current() == first
    event = lab.events("rolled_back")[0]["data"]
    assert (event["previous"], event["target"], event["reason"]) == (second, first, "complaints")
    status = lab.json("status")
    assert status["channels"]["stable"]["current"] == first
    assert status["checkpoints"][second]["status"] == "quarantined"
    assert lab.sound()

    before = lab.kinds()
    again = lab.do("rollback", "stable", "--reason", "complaints")
    assert again.code == 0
    assert again.says("ALREADY THERE", "nothing was written")
    assert lab.kinds() == before
    assert lab.current() == first


def test_to_names_a_promotion_by_its_first_digits(lab: Any) -> None:
    first, second = promoted(lab)
    assert lab.do("rollback", "--to", second[:8]).says("ALREADY THERE")
    assert lab.do("rollback", "--to", first[:8]).code == 0
    assert lab.current() == first
    assert lab.do("rollback", "--to", first).says("ALREADY THERE")
    # Forward again is a promotion, and that takes a gate.
    refused = lab.do("rollback", "--to", second[:8])
    assert refused.code == 2
    assert refused.says(second[:12])
    assert lab.current() == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "ffffffffffff"], "no checkpoint starts with 'ffffffffffff'"),
        (["--to", "ab"], "at least 6 digits"),
        (["canary"], "no channel is called canary; known: stable"),
        (["../stable"], "no channel is called ../stable"),
    ],
)
def test_an_unknown_name_is_a_usage_error(lab: Any, words: list[str], said: str) -> None:
    before, current = lab.kinds(), lab.current()
    done = lab.do("rollback", *words)
    assert done.code == 2
    assert done.says(said, "hint:")
    assert (lab.kinds(), lab.current()) == (before, current)


def test_without_a_promotion_there_is_nothing_to_roll_back(lab: Any) -> None:
    lab.cut_after("trained")
    done = lab.do("rollback")
    assert done.code == 2
    assert done.says("nothing was ever promoted")


def test_the_first_promotion_has_nothing_before_it(lab: Any) -> None:
    lab.cut_after("promoted")
    done = lab.do("rollback")
    assert done.code == 2
    assert done.says("nothing to go back to", "it stays there")


def test_without_a_store_nothing_is_made(fresh: Any) -> None:
    for command in (["rollback"], ["status"], ["log"], ["verify"]):
        done = fresh.do(*command)
        assert done.code == 2
        assert done.says("there is no store")
    assert not fresh.store.exists()


def test_what_was_rolled_back_needs_a_new_passing_gate(lab: Any) -> None:
    first, second = promoted(lab)
    assert lab.do("rollback", "--reason", "complaints").code == 0
    refused = lab.watched("run", lab.playbook)
    assert refused.code == 4
    assert refused.says("quarantined", f"safetune evaluate PLAYBOOK {second[:12]} --gate --reason")
    assert lab.current() == first
    assert lab.do("plan", lab.playbook, "--detailed-exitcode").code == 4

    named = ("evaluate", lab.playbook, second[:12], "--gate")
    assert lab.do(*named).code == 2  # a recorded verdict: say why
    assert lab.watched(*named, "--reason", "the complaints were about another model").code == 0
    assert lab.current() == first  # a gate alone moves nothing
    assert lab.events("gated")[-1]["data"]["attempt"] == 2
    assert lab.json("plan", lab.playbook)["stages"][1]["steps"] == ["promote"]

    done = lab.watched("run", lab.playbook)
    assert done.code == 0
    assert lab.current() == second
    assert lab.json("status")["checkpoints"][second]["status"] == "promoted"
    assert lab.sound()
    assert lab.do("rollback").code == 0
    assert lab.current() == first


def test_what_was_rolled_back_and_fails_its_new_gate_stays_out(lab: Any) -> None:
    first, second = promoted(lab)
    assert lab.do("rollback").code == 0
    lab.environment["PLANTED"] = "wrong control"
    assert lab.do("evaluate", lab.playbook, second[:12], "--gate", "--reason", "once more").code == 6
    lab.environment.clear()
    for _ in range(2):
        assert lab.watched("run", lab.playbook).code == 6
        assert lab.current() == first
    assert lab.events("rejected")[0]["data"]["checkpoint"] == second
    assert len(lab.events("rejected")) == 1
    assert lab.json("status")["checkpoints"][second]["status"] == "quarantined"
    assert lab.sound()


def test_the_channel_moves_off_a_promoted_checkpoint_that_fails_a_new_gate(lab: Any) -> None:
    """`evaluate` records the verdict and moves nothing; the next run follows it."""
    first, second = promoted(lab)
    lab.gate({**STRICTER}, sprint=1)
    lab.environment["PLANTED"] = "wrong control"
    assert lab.do("evaluate", lab.playbook, "stable", "--gate", "--reason", "a stricter gate").code == 6
    assert lab.current() == second
    lab.environment.clear()
    done = lab.watched("run", lab.playbook)
    assert done.code == 7
    assert lab.current() == first
    assert lab.json("status")["checkpoints"][second]["status"] == "quarantined"
    assert lab.sound()
    before = lab.kinds()
    assert lab.watched("run", lab.playbook).code == 6
    assert (lab.kinds(), lab.current()) == (before, first)
