"""Withdrawn consent in the ledger: exactly who learnt from it is quarantined, and nothing frees that."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ledger_lines import A, B, C, History, violation

from safetune.core import events
from safetune.core.errors import UsageError
from safetune.core.events import ROW, SOURCE, Draft, as_of, withdrawn
from safetune.core.rollback import choose_target
from safetune.core.standing import apply, fold
from safetune.core.withdrawal import descendants

S, T = "5" * 64, "7" * 64
ROW_ID = "0123456789abcdef" * 2


def source(name: str, sha256: str = S, **also: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256, **also}


def train(history: History, digest: str, *sources: dict[str, Any], parent: str = "", mixture: str = "") -> None:
    key = f"key {digest[0]}"
    history.add(events.admitted(key, mixture, sources))
    history.add(events.trained((key, "sprint", "stage"), digest, parent, {}))


@pytest.fixture
def history() -> History:
    """A was trained on chats, B from A, C on other rows; C and then A are promoted."""
    made = History()
    train(made, C, source("books", T))
    made.add(events.promoted("stable", C, "", made.gated(C), "key c"))
    train(made, A, source("chats"), source("books", T))
    made.add(events.promoted("stable", A, C, made.gated(A), "key a"))
    train(made, B, source("poems", "9" * 64), parent=A)
    return made


def take(*checkpoints: str, what: str = SOURCE, name: str = "chats", sha256: str = "", reason: str = "asked") -> Draft:
    return withdrawn(what, name, sha256, reason, checkpoints)


def take_row(history: History, *checkpoints: str, stages: tuple[str, ...] = ()) -> Draft:
    return as_of(take(*checkpoints, what=ROW, name=ROW_ID), len(history.events), stages)


@pytest.mark.parametrize("sha256", ["", S])
def test_a_source_takes_along_what_it_trained_and_all_that_came_from_it(history: History, sha256: str) -> None:
    line = history.add(take(A, B, sha256=sha256))
    found = history.standing
    assert {d: (one.status, one.withdrawn_at) for d, one in found.checkpoints.items()} == {
        A: ("quarantined", line),
        B: ("quarantined", line),
        C: ("promoted", 0),
    }
    assert found.channels["stable"].current == A
    (key,) = found.withdrawn
    assert (key, found.withdrawn[key].seq, found.withdrawn[key].text) == (
        f"bytes {S}" if sha256 else "source chats",
        line,
        "source chats",
    )
    assert found.data.of_source("chats", S) is not None
    assert (found.data.of_source("other", S) is not None) == bool(sha256)
    assert found.withdrawn_rows == {}


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (take(A), f"{B[:12]} was trained on what is withdrawn, and is not named"),
        (take(B), f"{A[:12]} was trained on what is withdrawn, and is not named"),
        (take(A, B, C), f"{C[:12]} was not trained on what is withdrawn"),
        (take(A, B, "e" * 64), "checkpoint eeeeeeeeeeee is not in the ledger"),
        (take(A, B, reason=" "), "a withdrawal needs a reason"),
        (take(A, B, what="thing"), "neither which source nor which row"),
        (take(name=""), "neither which source nor which row"),
        (take(A, B, sha256="abc"), "its sha256 is not that of a source"),
        (take(what=ROW, name="0123"), "is no id of a row"),
        (take(what=ROW, name=ROW_ID, sha256=S), "its sha256 is not that of a source"),
        (take(A, B, what=ROW, name=ROW_ID), "rows were looked at up to line None, not 10"),
        (as_of(take(A, B, what=ROW, name=ROW_ID), 9, ()), "rows were looked at up to line 9, not 10"),
        (as_of(take(A, what=ROW, name=ROW_ID), 10, ()), f"{B[:12]} was trained on what is withdrawn"),
        (Draft("withdrawn", {**take().data, "checkpoints": "all"}), "is not named"),
    ],
)
def test_a_line_that_does_not_fit_the_ledger_is_refused(history: History, draft: Draft, why: str) -> None:
    assert len(history.events) == 10
    history.add(draft)
    assert why in violation(history)


def test_no_gate_and_no_override_frees_it_and_no_channel_goes_back(history: History) -> None:
    history.add(take(A, B))
    history.add(events.rolled_back(("stable", A, C), "why", "a withdrawal", [A]))
    back = list(history.events)
    line = history.gated(A, attempt=2, reason="again")
    assert not history.standing.checkpoints[A].freed
    assert not history.standing.may_return_to(A)
    history.add(events.promoted("stable", A, C, line, "key a"))
    assert f"data that {A[:12]} was trained on was withdrawn in line 11" in violation(history)
    history.events = list(back)
    line = history.gated(B)
    history.add(events.promoted("stable", B, C, line, "key b"))
    assert "was withdrawn in line 11" in violation(history)
    history.events = list(back)
    history.gated(B, "FAIL")
    gate = history.events[-1].seq
    history.by = "bob"
    history.add(events.approved(B, "evidence", gate, "safety", ""))
    history.by = "ann"
    history.add(events.overridden(B, "evidence", gate, "needed"))
    assert "is quarantined since" in violation(history)


def test_a_rollback_to_it_is_refused_in_words(history: History) -> None:
    train(history, "d" * 64, source("poems", "9" * 64))
    history.add(events.promoted("stable", "d" * 64, A, history.gated("d" * 64), "key d"))
    history.add(take(A, B))
    with pytest.raises(UsageError, match="learnt from data that was withdrawn"):
        choose_target(history.standing, "stable", A)
    assert choose_target(history.standing, "stable").target == C


def test_what_is_withdrawn_is_admitted_no_more(history: History) -> None:
    history.add(take(A, B))
    history.add(events.admitted("key x", "", [source("chats", "1" * 64)]))
    assert "the source chats was withdrawn in line 11" in violation(history)
    history.events.pop()
    history.add(events.admitted("key x", "", [source("chats2", S)]))  # its bytes were not named
    assert history.standing.last_seq == 12
    history.events.pop()
    history.add(take(A, B, sha256=S))
    history.add(events.admitted("key x", "", [source("chats2", S)]))
    assert "the source chats was withdrawn in line 12" in violation(history)


def test_training_that_goes_on_meanwhile_makes_a_withdrawn_checkpoint(history: History) -> None:
    history.add(events.admitted("key d", "", [source("chats")]))
    history.add(events.admitted("key e", "", [source("books", T)]))
    history.add(take(A, B))
    row = history.add(take_row(history, stages=("key e",)))
    for digest, parent in (("d" * 64, ""), ("e" * 64, ""), ("f" * 64, A)):
        history.add(events.trained((f"key {digest[0]}", "s", "t"), digest, parent, {}))
    history.add(events.trained(("key 1", "s", "t"), "1" * 64, "", {}))
    found = history.standing
    assert [found.checkpoints[d * 64].withdrawn_at for d in "def1"] == [15, 16, 17, 0]
    assert found.withdrawn_rows == {ROW_ID: found.withdrawn[f"row {ROW_ID}"]}
    assert (found.data.tainted["key e"].seq, found.data.tainted["key e"].text) == (row, f"row {ROW_ID}")


def test_a_derived_mixture_brings_its_own_sources() -> None:
    made = History()
    train(made, A, source("chats"), mixture="3" * 64)
    train(made, B, source("derived", "3" * 64))
    train(made, C, source("elsewhere", "4" * 64, of=[source("chats", T), "nonsense"]))
    made.add(take(A, B))
    assert f"{C[:12]} was trained on what is withdrawn" in violation(made)
    made.events.pop()
    made.add(take(A, B, sha256=S))
    made.add(take(A, B, C))
    first = made.standing.checkpoints[A]
    assert (first.withdrawn_at, first.quarantined_at) == (7, 8)


def test_odd_lines_name_no_sources() -> None:
    made = History()
    made.add(Draft("admitted", {"stage_key": "k", "sources": "chats"}), Draft("admitted", {"stage_key": "j"}))
    made.add(events.admitted("l", "", ["x", {"name": 3}]))
    assert made.standing.data.admitted == {"k": (), "j": (), "l": (("", ""),)}


def test_one_line_more_leaves_the_standing_before_it_alone(history: History) -> None:
    before = history.standing
    history.add(take(A, B))
    after = apply(before, history.events[-1])
    assert (before.withdrawn, before.checkpoints[A].withdrawn_at) == ({}, 0)
    assert after == history.standing


def test_folding_in_parts_gives_the_same(history: History) -> None:
    history.add(take(A, B), take(A, B, sha256=S))
    history.add(take_row(history, stages=("key z",)))
    whole = fold(history.events)
    for cut in range(len(history.events)):
        assert fold(history.events[cut:], fold(history.events[:cut])) == whole


@pytest.mark.parametrize("seed", range(60))
def test_random_histories_take_exactly_what_can_be_reached(seed: int) -> None:
    """Against a search that follows every parent upwards, and every smaller or larger set is refused."""
    r = random.Random(seed)
    made = History()
    parent: dict[str, str] = {}
    own: dict[str, frozenset[str]] = {}
    for n in range(r.randrange(1, 9)):
        digest = f"{n:x}" * 64
        parent[digest] = r.choice(["", *parent])
        own[digest] = frozenset(r.sample(["chats", "books", "poems"], r.randrange(1, 3)))
        train(made, digest, *(source(name, name[0] * 64) for name in own[digest]), parent=parent[digest])

    def learnt(digest: str) -> bool:
        while digest:
            if "chats" in own[digest]:
                return True
            digest = parent[digest]
        return False

    wanted = {digest for digest in parent if learnt(digest)}
    assert descendants(parent, [d for d in parent if "chats" in own[d]]) == wanted
    made.add(take(*sorted(wanted)))
    assert {d for d, one in made.standing.checkpoints.items() if one.withdrawn_at} == wanted
    for digest in parent:
        made.events.pop()
        made.add(take(*sorted(wanted ^ {digest})))
        assert "what is withdrawn" in violation(made)
