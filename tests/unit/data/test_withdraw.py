"""Withdrawing a source or a row: exactly who learnt from it, where channels go, and what is said."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from datalab import DataLab, Stocked, damage_rows, told
from storelab.story import CHANNEL, gate_record

from safetune.core.errors import ExitCode, UsageError
from safetune.core.events import ROW, admitted, as_of, evaluated, gated, promoted, trained, withdrawn
from safetune.engine.asking import Subject, Workplace
from safetune.engine.data.withdraw import SAW, affected, withdraw
from safetune.engine.gating import GateOrder, Purse, gate_checkpoint
from safetune.engine.measure import Arms
from safetune.engine.status import status
from safetune.engine.verify import verify
from safetune.report.data_withdraw import withdraw_lines
from safetune.report.json_view import json_text, record
from safetune.report.store import log_lines, status_lines
from safetune.state.store import Store


@pytest.fixture
def lab(tmp_path: Path) -> DataLab:
    return DataLab(tmp_path / "store", tmp_path / "desk")


def rows(name: str, count: int = 3) -> list[dict[str, object]]:
    return [told(f"{name} {n}?", f"{name} answers {n}") for n in range(count)]


def promote(lab: DataLab, name: str, checkpoint: str, previous: str) -> None:
    evidence = lab.story.evidence(checkpoint, "refused")
    lab.store.commit(evaluated(checkpoint, "ba5e" * 16, evidence, ["harmful"], f"key-{name}"))
    line = lab.store.commit(gated(gate_record(f"key-{name}", checkpoint, evidence, "refused")))
    lab.store.commit(promoted(CHANNEL, checkpoint, previous, line, f"key-{name}"))


def who(lab: DataLab, what: str) -> set[str]:
    return {one.checkpoint for one in withdraw(lab.root, what, "asked", dry_run=True).affected}


def test_a_row_takes_along_only_those_that_saw_it(lab: DataLab) -> None:
    chats, books = lab.stock("chats", rows("chat")), lab.stock("books", rows("book"))
    mixed = lab.mix(chats, technique=[books])
    saw = lab.train("saw", mixed, [[0, 1], [1, 2]])
    blind = lab.train("blind", mixed, [[0], [2]])
    child = lab.train("child", lab.mix(books), [[0]], parent=saw)
    technique = lab.train(
        "technique", mixed, [[0]], technique=[[mixed.number("books", 1, "technique:kl_regularization")]]
    )
    row = chats.ids[1]
    result = withdraw(lab.root, row[:8], "asked", dry_run=True)
    assert (result.what, result.name, result.line, result.exit_code) == ("row", row, 0, ExitCode.DONE)
    assert {one.checkpoint: one.why for one in result.affected} == {
        saw: f"{SAW} 2 times",
        child: f"it was trained from {saw[:12]}",
    }
    assert who(lab, books.ids[1]) == {technique}
    assert who(lab, books.ids[0]) == {child}
    assert who(lab, "chats") == {saw, blind, child, technique}
    assert Store.open(lab.root).standing().withdrawn == {}


def test_without_a_record_that_can_be_read_nobody_is_excluded(lab: DataLab) -> None:
    chats, books = lab.stock("chats", rows("chat")), lab.stock("books", rows("book"))
    mixed, other = lab.mix(chats), lab.mix(books)
    for name, one in (("with", mixed), ("without", other)):
        stored = [{**s.source.declarations, "data": s.outcome.data} for s in one.stock.values()]
        lab.store.commit(admitted(f"key-{name}", one.digest, stored))
        lab.train_unrecorded(name)
    lab.train_unrecorded("old")
    damaged = lab.train("damaged", mixed, [[0]])
    whys = [one.why for one in withdraw(lab.root, chats.ids[2], "asked", dry_run=True).affected]
    assert whys == ["there is no record of its steps, so that cannot be excluded"] * 2
    damage_rows(lab, chats.outcome.data)
    found = {one.checkpoint: one.why for one in withdraw(lab.root, chats.ids[2], "asked", dry_run=True).affected}
    assert found[damaged] == "the record of its steps cannot be read, so that cannot be excluded"
    assert len(found) == 3


def test_the_channel_goes_back_in_the_same_commit_and_nothing_frees_what_learnt(lab: DataLab) -> None:
    chats, books = lab.stock("chats", rows("chat")), lab.stock("books", rows("book"))
    good = lab.train("good", lab.mix(books), [[0]])
    promote(lab, "good", good, "")
    bad = lab.train("bad", lab.mix(chats), [[0]], parent=good)
    promote(lab, "bad", bad, good)
    before = len(lab.store.events())
    dry = withdraw(lab.root, "chats", "asked", dry_run=True)
    assert [(m.previous, m.target) for m in dry.moves] == [(bad, good)]
    assert "WOULD WITHDRAW" in withdraw_lines(dry)[0]
    result = withdraw(lab.root, "chats", "asked by \x1b[31mher")
    assert result.exit_code is ExitCode.DONE
    store = Store.open(lab.root)
    assert [event.kind for event in store.events()[before:]] == ["withdrawn", "withdrawn", "rolled_back"]
    assert store.standing().channels[CHANNEL].current == good
    assert store.standing().checkpoints[bad].withdrawn_at == before + 1
    assert verify(lab.root).findings == ()
    shown = "\n".join([*withdraw_lines(result), *log_lines(store.events(), len(store.events()))])
    assert "\x1b" not in shown
    assert f"{CHANNEL} is rolled back: {bad[:12]} -> {good[:12]}" in shown
    assert "source chats" in shown
    assert f", data withdrawn (ledger line {before + 1})" in "\n".join(status_lines(status(lab.root)))
    again = withdraw(lab.root, "chats", "asked")
    assert (again.line, again.since, again.moves) == (0, before + 1, ())
    assert "ALREADY WITHDRAWN" in withdraw_lines(again)[0]
    assert json.loads(json_text(record(result)))["affected"][0]["checkpoint"] == bad


def test_said_again_it_sets_aside_what_learnt_the_row_meanwhile(lab: DataLab) -> None:
    chats = lab.stock("chats", rows("chat"))
    mixed, row = lab.mix(chats), chats.ids[0]
    first = lab.train("first", mixed, [[0]])
    line = withdraw(lab.root, row, "asked").line
    late = lab.train("late", mixed, [[0]])
    assert not Store.open(lab.root).standing().checkpoints[late].withdrawn_at
    again = withdraw(lab.root, row, "asked again")
    assert ({one.checkpoint for one in again.affected}, again.line, again.since) == ({first, late}, line + 3, line)
    standing = Store.open(lab.root).standing()
    assert standing.checkpoints[late].status == "quarantined"
    assert [standing.checkpoints[one].withdrawn_at for one in (first, late)] == [line, again.line]
    assert (standing.withdrawn_rows[row].seq, standing.withdrawn_rows[row].reason) == (line, "asked")
    assert verify(lab.root).findings == ()
    assert withdraw(lab.root, row, "asked").line == 0


def test_a_channel_with_no_way_back_is_named_and_left_alone(lab: DataLab) -> None:
    chats = lab.stock("chats", rows("chat"))
    bad = lab.train("bad", lab.mix(chats), [[0]])
    promote(lab, "bad", bad, "")
    result = withdraw(lab.root, chats.ids[0], "asked")
    assert (result.exit_code, [m.target for m in result.moves]) == (ExitCode.FAIL, [""])
    assert f"STILL SERVES {bad[:12]}" in "\n".join(withdraw_lines(result))
    assert Store.open(lab.root).standing().channels[CHANNEL].current == bad
    assert "nothing frees it" in status(lab.root).warnings[0]
    assert Store.open(lab.root).standing().withdrawn_rows.keys() == {chats.ids[0]}


def test_a_damaged_way_back_is_passed_over(lab: DataLab) -> None:
    books, chats = lab.stock("books", rows("book")), lab.stock("chats", rows("chat"))
    first, second = (lab.train(name, lab.mix(books), [[0]]) for name in ("first", "second"))
    promote(lab, "first", first, "")
    promote(lab, "second", second, first)
    bad = lab.train("bad", lab.mix(chats), [[0]])
    promote(lab, "bad", bad, second)
    next(p for p in lab.store.objects.path(second).iterdir() if p.name == "checkpoint.json").chmod(0o644)
    (lab.store.objects.path(second) / "checkpoint.json").write_text("{}")
    assert [m.target for m in withdraw(lab.root, "chats", "asked").moves] == [first]
    assert Store.open(lab.root).standing().checkpoints[second].status == "quarantined"


def test_training_that_goes_on_with_the_row_makes_a_withdrawn_checkpoint(lab: DataLab) -> None:
    chats, books = lab.stock("chats", rows("chat")), lab.stock("books", rows("book"))
    for key, one in (("going", lab.mix(chats)), ("other", lab.mix(books))):
        lab.store.commit(admitted(key, one.digest, [s.source.declarations for s in one.stock.values()]))
    withdraw(lab.root, chats.ids[0], "asked")
    made = {}
    for key in ("going", "other"):
        made[key] = lab.story.adopt(key)
        lab.store.commit(trained((key, "s", "t"), made[key], "", {}))
    standing = Store.open(lab.root).standing()
    assert {key: bool(standing.checkpoints[digest].withdrawn_at) for key, digest in made.items()} == {
        "going": True,
        "other": False,
    }


@pytest.mark.parametrize(
    ("what", "says", "hint"),
    [
        ("chat", 'no admitted source is called "chat"', 'did you mean "chats"?'),
        ("0123456", "no admitted source is called", "known: chats"),
        ("0123456789", "no source and no row of this store begins with 0123456789", "32 digits"),
    ],
)
def test_what_is_unknown_is_said(what: str, says: str, hint: str, lab: DataLab) -> None:
    lab.train("one", lab.mix(lab.stock("chats", rows("chat"))), [[0]])
    with pytest.raises(UsageError, match=says) as raised:
        withdraw(lab.root, what, "asked")
    assert hint in raised.value.hint
    with pytest.raises(UsageError, match="needs a reason"):
        withdraw(lab.root, "chats", " ")


def test_a_row_that_was_never_seen_may_be_withdrawn_by_its_whole_id(lab: DataLab) -> None:
    lab.train("one", lab.mix(lab.stock("chats", rows("chat"))), [[0]])
    result = withdraw(lab.root, "0" * 32, "asked")
    assert (result.affected, result.what) == ((), "row")
    assert set(Store.open(lab.root).standing().withdrawn_rows) == {"0" * 32}


def test_the_bytes_of_a_source_are_the_same_source_under_another_name(lab: DataLab) -> None:
    same = rows("chat")
    first, second = lab.stock("chats", same), lab.stock("talks", same)
    a, b = lab.train("a", lab.mix(first), [[0]]), lab.train("b", lab.mix(second), [[1]])
    assert who(lab, first.source.sha256[:10]) == {a, b}
    withdraw(lab.root, "chats", "asked")
    standing = Store.open(lab.root).standing()
    assert all(standing.checkpoints[digest].withdrawn_at for digest in (a, b))
    assert standing.data.of_source("talks", first.source.sha256) is not None


def test_verify_finds_a_line_that_leaves_out_who_saw_the_row(lab: DataLab) -> None:
    chats = lab.stock("chats", rows("chat"))
    saw = lab.train("saw", lab.mix(chats), [[0]])
    lab.train("blind", lab.mix(chats), [[1]])
    line = as_of(withdrawn(ROW, chats.ids[0], "", "asked", []), lab.store.standing().last_seq, [])
    lab.store.commit(line)
    assert [f.what for f in verify(lab.root).findings] == [
        f"{saw[:12]} saw the row that is withdrawn, and is not named"
    ]


def test_verify_hashes_mixtures_rows_and_records(lab: DataLab) -> None:
    chats = lab.stock("chats", rows("chat"))
    lab.train("one", lab.mix(chats), [[0]])
    sound = verify(lab.root)
    assert (sound.findings, [n for n in sound.notes if "not named" in n.what]) == ((), [])
    assert sound.objects == 4
    damage_rows(lab, chats.outcome.data)
    assert any(f.where.startswith(f"object {chats.outcome.data[:12]}") for f in verify(lab.root).findings)


@pytest.mark.parametrize("seed", range(25))
def test_on_random_graphs_the_affected_are_exactly_those_that_learnt(seed: int, lab: DataLab) -> None:
    """Against a plain search: whose steps saw the row, or whose ancestor's did; checked again by `verify`."""
    r = random.Random(seed)
    stock = [lab.stock(f"s{n}", rows(f"s{n}", 2)) for n in range(3)]
    parent: dict[str, str] = {}
    seen: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    for n in range(r.randrange(1, 8)):
        used: list[Stocked] = r.sample(stock, r.randrange(1, 4))
        also = [one for one in used[1:] if r.random() < 0.4]
        mixed = lab.mix(*(one for one in used if one not in also), technique=also)
        numbers = [(part, part.first + k) for part in mixed.parts for k in range(part.kept) if r.random() < 0.5]
        own = [number for part, number in numbers if part.role == "train"] or [0]
        technique = [number for part, number in numbers if part.role != "train"]
        source = r.choice(["", *parent])
        made = lab.train(f"c{n}", mixed, [[x] for x in own], [technique] if technique else [], parent=source)
        ids = [one for part in mixed.parts for one in mixed.stock[part.name].ids]
        parent[made], held[made] = source, set(mixed.stock)
        seen[made] = {ids[number] for number in (*own, *technique)}

    def reaches(digest: str, own: dict[str, set[str]], wanted: str) -> bool:
        return bool(digest) and (wanted in own[digest] or reaches(parent[digest], own, wanted))

    for one in stock:
        for row in one.ids:
            assert {x.checkpoint for x in affected(lab.store, ROW, row)} == {c for c in parent if reaches(c, seen, row)}
        if any(one.source.name in names for names in held.values()):
            assert who(lab, one.source.name) == {c for c in parent if reaches(c, held, one.source.name)}
    withdraw(lab.root, r.choice(stock).ids[0], "asked")
    assert verify(lab.root).findings == ()


def test_a_channel_that_an_earlier_withdrawal_left_is_not_laid_to_a_later_one(lab: DataLab) -> None:
    chats, books = lab.stock("chats", rows("chat")), lab.stock("books", rows("book"))
    bad = lab.train("bad", lab.mix(chats), [[0]])
    promote(lab, "bad", bad, "")
    lab.train("other", lab.mix(books), [[0]])
    first = "\n".join(withdraw_lines(withdraw(lab.root, chats.ids[0], "asked")))
    later = "\n".join(withdraw_lines(withdraw(lab.root, books.ids[2], "asked")))
    assert f"STILL SERVES {bad[:12]}: nothing before it is unaffected" in first
    assert "earlier ledger line" not in first
    assert "not for this withdrawal but for one in an earlier ledger line" in later


def test_what_learnt_from_withdrawn_data_is_not_gated_again_and_nothing_is_spent(lab: DataLab) -> None:
    chats, books = lab.stock("chats", rows("chat")), lab.stock("books", rows("book"))
    bad = lab.train("bad", lab.mix(chats), [[0]])
    promote(lab, "bad", bad, "")
    child = lab.train("child", lab.mix(books), [[0]], parent=bad)
    withdraw(lab.root, "chats", "asked")
    late = lab.train("late", lab.mix(books), [[1]], parent=bad)
    before = len(lab.store.events())
    for digest in (bad, child, late):
        arms = Arms(Subject(f"checkpoint {digest[:12]}", digest, {}))
        order = GateOrder("key", (), (), "basis", Purse("tutor", 1.0, CHANNEL), "again")
        since = Store.open(lab.root).standing().checkpoints[digest].withdrawn_at
        says = rf"{digest[:12]} learnt from data that was withdrawn \(ledger line {since}\)"
        with pytest.raises(UsageError, match=says) as raised:
            gate_checkpoint(Store.open(lab.root), arms, order, Workplace(lab.root, lab.root, 1, lambda _: None))
        assert raised.value.exit_code is ExitCode.USAGE
    assert len(Store.open(lab.root).events()) == before
