"""From checkpoints to the rows that they saw, and back; the file in between."""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from datalab import DataLab, Mixed, damage_rows, told
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.errors import IntegrityError, RunError
from safetune.engine.data.lineage import (
    Library,
    ancestry,
    checkpoints_of_source,
    find_rows,
    part_of,
    read_record,
    rows,
    rows_seen,
    sightings,
    steps_that_saw,
    trainings,
)
from safetune.engine.data.mixture import read_mixture
from safetune.state.seen import Growing, SeenRows, Steps, decode, encode, joined

STEPS = st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=5), max_size=8)


def steps(of: list[list[int]]) -> Steps:
    found = Growing()
    for n, numbers in enumerate(of):
        found.add(n, numbers)
    return found.steps


@pytest.fixture
def lab(tmp_path: Path) -> DataLab:
    return DataLab(tmp_path / "store", tmp_path / "desk")


def questions(topic: str, count: int) -> list[dict[str, object]]:
    return [told(f"{topic}: what is {n} plus 1", f"It is {n + 1}.") for n in range(count)]


def mixed(lab: DataLab) -> Mixed:
    anchors = [lab.stock("anchors", questions("anchor", 3))]
    return lab.mix(lab.stock("sums", questions("sums", 5)), lab.stock("chat", questions("chat", 2)), technique=anchors)


# -- the file ----------------------------------------------------------------------------------------------------------


@given(STEPS, STEPS)
def test_a_record_is_read_as_it_was_written(own: list[list[int]], technique: list[list[int]]) -> None:
    seen = SeenRows(steps(own), steps(technique))
    found = decode(encode(seen))
    assert [list(s) for s in found.rows] == own
    assert [list(s) for s in found.technique] == technique


def test_other_programs_can_read_the_record(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    (tmp_path / "seen.safetensors").write_bytes(encode(SeenRows(steps([[7, 2**32 - 1], [], [7]]), steps([[1]] * 3))))
    found = numpy.load_file(tmp_path / "seen.safetensors")
    assert {name: (str(of.dtype), of.tolist()) for name, of in found.items()} == {
        "rows": ("uint32", [7, 2**32 - 1, 7]),
        "offsets": ("uint32", [0, 2, 2, 3]),
        "technique_rows": ("uint32", [1, 1, 1]),
        "technique_offsets": ("uint32", [0, 1, 2, 3]),
    }


def test_a_row_and_step_takes_at_most_8_bytes() -> None:
    """Beside 250 bytes in all: 4 per row, 4 per step."""
    for rows_per_step in (1, 2, 8):
        data = encode(SeenRows(steps([[5] * rows_per_step] * 1000), steps([[6]] * 1000)))
        assert len(data) - 400 <= 8 * 1000 * (rows_per_step + 1)


@given(st.binary(max_size=200))
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(data)


def _changed(header: Mapping[str, object], data: bytes = b"\0" * 16) -> bytes:
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"rows": ("U32", 2, 0, 8), "offsets": ("U32", 1, 8, 12)}, "do not cover"),
        ({"rows": ("U32", 1, 0, 8), "offsets": ("U32", 1, 8, 12)}, "another shape"),
        ({"rows": ("U32", 2, 0, 8), "offsets": ("U32", 3, 8, 20)}, "outside of the file"),
        ({"rows": ("F32", 2, 0, 8), "offsets": ("U32", 2, 8, 16)}, "F32"),
        ({"rows": ("U32", 2, 0, 8)}, "offsets"),
    ],
)
def test_a_record_that_does_not_fit_together_is_refused(
    tensors: dict[str, tuple[str, int, int, int]], why: str
) -> None:
    header = {n: {"dtype": t, "shape": [c], "data_offsets": [a, b]} for n, (t, c, a, b) in tensors.items()}
    with pytest.raises(ValueError, match=why):
        decode(_changed(header))


def test_steps_that_run_backwards_are_refused() -> None:
    broken = Steps(array("I", [1, 2]), array("q", [0, 3, 2]))
    with pytest.raises(ValueError, match="not in order"):
        decode(encode(SeenRows(broken, steps([]))))


def test_processes_are_joined_step_by_step() -> None:
    found = joined([steps([[1, 2], [3]]), steps([[4], [5, 6]])])
    assert [list(s) for s in found] == [[1, 2, 4], [3, 5, 6]]
    with pytest.raises(RunError, match="different numbers of steps"):
        joined([steps([[1]]), steps([[1], [2]])])


# -- in the store ------------------------------------------------------------------------------------------------------


def test_every_row_that_was_seen_is_counted(lab: DataLab) -> None:
    mixture = mixed(lab)
    lab.train("one", mixture, [[0, 5, 0], [1, 2]], [[7], [7]])
    (run,) = trainings(lab.store.events())[next(iter(lab.store.standing().checkpoints))]
    found = rows_seen(lab.store.objects, run.lineage)
    assert {n: (s.times, s.first, s.last) for n, s in found.items()} == {
        0: (2, 1, 1),
        5: (1, 1, 1),
        1: (1, 2, 2),
        2: (1, 2, 2),
        7: (2, 1, 2),
    }
    record = read_record(lab.store.objects, run.lineage)
    assert (record.mixture, record.stage_key, record.steps) == (mixture.digest, "key-one", 2)
    assert steps_that_saw(record.seen, frozenset({0, 7})) == {0: (1,), 7: (1, 2)}


def test_numbers_lead_to_sources_and_lines(lab: DataLab) -> None:
    mixture = mixed(lab)
    found = read_mixture(lab.store.objects, mixture.digest)
    assert [part_of(found.parts, n).name for n in (0, 4, 5, 6, 7, 9)] == [
        "sums",
        "sums",
        "chat",
        "chat",
        "anchors",
        "anchors",
    ]
    with pytest.raises(IntegrityError, match="has no row 10"):
        part_of(found.parts, 10)
    placed = [row for part in found.parts for row in rows(lab.store.objects, part)]
    lines = [1, 2, 3, 4, 5, 1, 2, 1, 2, 3]
    assert [(row.number, row.line) for row in placed] == list(enumerate(lines))
    assert [row.id for row in placed if row.part.name == "chat"] == mixture.stock["chat"].ids
    wanted = mixture.stock["chat"].ids[1]
    assert [row.number for row in find_rows(lab.store.objects, found, wanted[:12])] == [6]


def test_a_thousand_rows_are_traced_without_one_missing(lab: DataLab) -> None:
    """D2: every row that any step saw leads to exactly the checkpoints that saw it, with steps, times and source."""
    chance = random.Random(4)
    stocks = [lab.stock(f"source-{n}", questions(f"topic {n}", 250)) for n in range(4)]
    mixture = lab.mix(*stocks)
    plans = {name: [[chance.randrange(1000) for _ in range(16)] for _ in range(150)] for name in ("a", "b")}
    checkpoints = {"a": lab.train("a", mixture, plans["a"])}
    checkpoints["b"] = lab.train("b", mixture, plans["b"], parent=checkpoints["a"])
    library, events = Library(lab.store.objects), lab.store.events()
    numbers = {row_id: stock * 250 + n for stock, of in enumerate(stocks) for n, row_id in enumerate(of.ids)}
    found = sightings(library, events, frozenset(numbers))
    traced = {(one.checkpoint, one.row.id, one.via): one for one in found}
    wrong = 0
    for row_id, number in numbers.items():
        for name, checkpoint in checkpoints.items():
            expected = tuple(n for n, step in enumerate(plans[name], 1) if number in step)
            one = traced.get((checkpoint, row_id, ""))
            wrong += (one.steps if one else ()) != expected
            if one is not None:
                wrong += one.row.part.name != f"source-{number // 250}"
                wrong += one.times != sum(Counter(step)[number] for step in plans[name])
        inherited = traced.get((checkpoints["b"], row_id, checkpoints["a"]))
        wrong += bool(inherited) != any(number in step for step in plans["a"])
    print(f"\nD2: 1,000 rows in 2 checkpoints of 150 steps each: {wrong} of 7,000 statements wrong")
    assert wrong == 0
    assert len(traced) == len(found)


def test_only_those_who_saw_a_source_are_affected(lab: DataLab) -> None:
    sums, chat = lab.stock("sums", questions("sums", 5)), lab.stock("chat", questions("chat", 2))
    both, one = lab.mix(sums, chat), lab.mix(sums)
    never_saw = lab.train("a", both, [[0, 1]])  # chat was in its mixture, and no step took a row of it
    saw = lab.train("b", both, [[0, 6]], parent=never_saw)
    child = lab.train("c", one, [[0]], parent=saw)
    as_anchor = lab.train("d", lab.mix(sums, technique=[chat]), [[0]], [[5]])
    other = lab.train("e", one, [[1]])
    library, events = Library(lab.store.objects), lab.store.events()
    assert checkpoints_of_source(library, events, "chat") == (saw, child, as_anchor)
    assert checkpoints_of_source(library, events, "anything", chat.source.sha256) == (saw, child, as_anchor)
    assert checkpoints_of_source(library, events, "sums") == (never_saw, saw, child, as_anchor, other)
    assert checkpoints_of_source(library, events, "nobody") == ()


def test_ancestors_come_nearest_first_and_a_circle_ends(lab: DataLab) -> None:
    mixture = mixed(lab)
    first = lab.train("a", mixture, [[0]])
    second = lab.train("b", mixture, [[1]], parent=first)
    made = dict(trainings(lab.store.events()))
    assert ancestry(made, second) == (second, first)
    (run,) = made[first]
    made[first] = (type(run)(first, run.seq, run.stage_key, run.place, second, run.lineage),)
    assert ancestry(made, second) == (second, first)


def test_a_checkpoint_that_is_made_again_the_same_way_saw_its_rows_once(lab: DataLab) -> None:
    mixture = mixed(lab)
    checkpoint = lab.train("a", mixture, [[0]])
    lab.train("a", mixture, [[0]])
    found = sightings(Library(lab.store.objects), lab.store.events(), frozenset(mixture.stock["sums"].ids))
    assert [(one.checkpoint, one.times) for one in found] == [(checkpoint, 1)]


def test_damage_is_an_error_and_no_answer(lab: DataLab) -> None:
    mixture = mixed(lab)
    lab.train("a", mixture, [[0]])
    damage_rows(lab, mixture.parts[0].data)
    with pytest.raises(IntegrityError, match=r"has a changed rows\.jsonl"):
        sightings(Library(lab.store.objects), lab.store.events(), frozenset(mixture.stock["sums"].ids))


def test_a_record_that_counts_beyond_the_rows_is_an_error(lab: DataLab) -> None:
    mixture = mixed(lab)
    lab.train("a", mixture, [[10]])
    with pytest.raises(IntegrityError, match="has no row 10"):
        sightings(Library(lab.store.objects), lab.store.events(), frozenset(mixture.stock["sums"].ids))
