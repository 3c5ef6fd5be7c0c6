"""F1: `verify` on damaged stores. It finds all damage, raises nothing, writes nothing, and a sound store is clean."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from storelab import damage
from storelab.story import CHANNEL, Story, replaced
from storelab.trials import copied

from safetune.core.errors import UsageError
from safetune.core.events import started
from safetune.engine import verify as verifying
from safetune.engine.verify import VerifyReport, verify
from safetune.state.ledger import Ledger
from safetune.state.objects import ObjectStore
from safetune.state.store import Store


def _damaged(template: Path, place: Path, seeds: range) -> list[str]:
    """Damage a store in many ways; return what was done where verify called it clean, or changed something."""
    missed = []
    for seed in seeds:
        root, _ = copied(template, place / "trial")
        before = damage.content(root)
        what = damage.damage(root, seed)
        after = damage.content(root)
        assert after != before, f"{seed}: {what} changed nothing"
        report = verify(root)
        if not report.findings:
            missed.append(f"{seed}: {what}")
        if damage.content(root) != after:
            missed.append(f"{seed}: {what}: verify wrote something")
    return missed


def test_a_store_of_an_earlier_format_is_refused_and_not_called_damaged(template: Path, place: Path) -> None:
    root, _ = copied(template, place / "trial")
    (root / "format").write_bytes(b"safetune-store/1\n")
    with pytest.raises(UsageError, match="was made by an earlier safetune"):
        verify(root)


def test_verify_finds_every_damage(template: Path, place: Path) -> None:
    assert _damaged(template, place, range(102)) == []


@pytest.mark.slow
def test_verify_finds_every_damage_in_five_hundred_stores(template: Path, place: Path) -> None:
    assert _damaged(template, place, range(1000, 1500)) == []


def test_the_damage_trial_sees_a_verify_that_does_not_hash(template: Path, place: Path) -> None:
    """The planted bug: objects are looked at and not hashed."""
    with replaced(ObjectStore, verify=lambda self, digest: len(self.manifest(digest))):
        assert _damaged(template, place, range(34))


def test_the_damage_trial_sees_a_verify_that_trusts_the_gates(template: Path, place: Path) -> None:
    """The planted bug: gates are taken at their word."""
    with replaced(verifying._Verifier, _gates=lambda self, events: None):
        assert _damaged(template, place, range(102))


_SAID = {
    "a result is FAIL and the verdict PASS": "not what the evidence gives: verdict",
    "figures that the evidence does not hold": "not what the evidence gives: candidate",
    "a PASS without results": "the line has 0 results",
    "the evidence of another evaluation": "about other models",
    "a gate on the evidence of another checkpoint": "about other models",
    "evidence about another subject": "about other models",
    "an evaluation is left out": "never recorded as an evaluation",
    "a gate is left out": "no PASS",
    "another parent": "another parent",
    "two lines changed places": "ledger line",
    "fields of another type": "of another type",
    "an unknown kind": "unknown kind",
    "the last line is gone, the head too": "the ledger says",
}


@pytest.mark.parametrize("forgery", damage.FORGERIES)
def test_a_forged_ledger_whose_chain_fits_is_found(template: Path, place: Path, forgery: str) -> None:
    root, _ = copied(template, place / "trial")
    found = damage.rows(root)
    damage.FORGERIES[forgery](found, random.Random(1))
    damage.forge(root, found)
    assert any(_SAID[forgery] in f"{f.where}: {f.what}" for f in verify(root).findings)


def test_what_is_left_of_a_broken_ledger_is_still_checked(template: Path, place: Path) -> None:
    root, _ = copied(template, place / "trial")
    first = damage.rows(root)[0]["data"]["checkpoint"]
    (root / "objects" / first / "extra.json").write_text("{}")
    (root / "ledger.jsonl").write_bytes((root / "ledger.jsonl").read_bytes().replace(b'"seq":7', b'"seq":9'))
    report = verify(root)
    assert report.ledger_lines == 6
    assert {"ledger", f"object {first[:12]} (ledger line 1, trained)"} <= {f.where for f in report.findings}


def test_a_sound_store_is_clean_and_counted(template: Path) -> None:
    report = verify(template / "store")
    assert (report.findings, report.notes, report.clean) == ((), (), True)
    assert (report.ledger_lines, report.objects) == (8, 4)
    assert report.bytes_checked == sum(
        p.stat().st_size for p in (template / "store" / "objects").rglob("*") if p.is_file() and p.suffix != ".json"
    ) + sum(p.stat().st_size for p in (template / "store" / "objects").rglob("*.json") if p.name != "MANIFEST.json")


def test_leftovers_and_unknown_objects_are_notes(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")
    story = Story(Store.open(root), desk)
    stranger = story.adopt("fourth")
    (root / "tmp" / "adopt-0").mkdir()
    (root / "refs" / ".stable.0.tmp").write_text("")
    (root / "objects" / "README").write_text("")
    report = verify(root)
    assert report.findings == ()
    assert {note.where for note in report.notes} == {
        "tmp/adopt-0",
        "refs/.stable.0.tmp",
        f"objects/{stranger[:12]}",
        "objects/README",
    }


def test_all_damage_is_listed_at_once(template: Path, place: Path) -> None:
    root, _ = copied(template, place / "trial")
    objects = sorted((root / "objects").iterdir())
    for path in objects[:2]:
        (path / "MANIFEST.json").unlink()
    (root / "refs" / CHANNEL).write_text("0" * 64 + "\n")
    wrong = [f.where.split(" (")[0] for f in verify(root).findings]
    assert wrong.count(f"object {objects[0].name[:12]}") == 1
    assert wrong.count(f"object {objects[1].name[:12]}") == 1
    assert f"refs/{CHANNEL}" in wrong


def test_every_finding_says_what_to_do(template: Path, place: Path) -> None:
    for seed in range(34):
        root, _ = copied(template, place / "trial")
        damage.damage(root, seed)
        assert [f for f in verify(root).findings if not (f.where and f.what and f.hint)] == []


def test_a_wrong_pointer_is_found_and_status_derives_it_again(template: Path, place: Path) -> None:
    root, _ = copied(template, place / "trial")
    (root / "refs" / CHANNEL).write_text("0" * 64 + "\n")
    (finding,) = verify(root).findings
    assert "safetune status" in finding.hint
    Store.open(root)
    assert verify(root).findings == ()


def test_what_a_crash_left_is_found_and_status_finishes_it(template: Path, place: Path) -> None:
    root, _ = copied(template, place / "trial")
    head = (root / "ledger.head").read_bytes()
    Store.open(root).commit(started("r1", "playbook", "d" * 64, "e" * 64))
    (root / "ledger.head").write_bytes(head)
    (finding,) = verify(root).findings
    assert "one line behind" in finding.what
    assert "safetune status" in finding.hint
    assert Store.open(root).recovered
    assert verify(root).findings == ()


def test_there_is_no_store_is_a_usage_error(place: Path) -> None:
    for path in (place, place / "nothing"):
        with pytest.raises(UsageError, match="no store"):
            verify(path)


def _long_ledger(folder: Path, lines: int) -> None:
    """Write a ledger of many runs, in one go."""
    row = {"at": "2030-01-01T00:00:00Z", "by": "somebody", "kind": "started"}
    made = [{**row, "data": dict(started(f"r{n}", "playbook", "d" * 64, "e" * 64).data)} for n in range(lines)]
    damage.forge(folder, made)


@pytest.mark.slow
def test_a_ledger_of_a_hundred_thousand_lines_is_verified_in_ten_seconds(place: Path) -> None:
    store = Store.create(place / "store")
    _long_ledger(store.root, 100_000)
    begun = time.process_time()
    report: VerifyReport = verify(store.root)
    assert time.process_time() - begun <= 10
    assert (report.ledger_lines, report.findings) == (100_000, ())


def test_a_pointer_moves_in_ten_milliseconds_on_a_store_of_a_thousand_lines(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")
    found = damage.rows(root)
    filler = [{**found[0], "kind": "started", "data": dict(started(f"r{n}", "p", "d", "e").data)} for n in range(1000)]
    damage.forge(root, [*found, *filler])
    story = Story(Store.open(root), desk)
    begun = time.process_time()
    story.roll_back()
    assert time.process_time() - begun <= 0.010
    assert len(Ledger(root).read()[0]) == 1009
