"""Row to checkpoints, checkpoint to sources, answer to rows."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datalab import DataLab, Mixed, damage_rows, lines, told

from safetune.core.digest import sha256_hex
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.events import as_of, withdrawn
from safetune.core.row_id import row_id
from safetune.engine.data.nearest import nearest
from safetune.engine.data.trace import Tracer, row_named
from safetune.report.json_view import json_text, record
from safetune.report.trace import checkpoint_lines, output_lines, row_lines

SUMS = [told(f"What is {n} plus {n}?", f"The sum of {n} and {n} is {2 * n}.") for n in range(20)]
TALES = [
    told("Tell me of the fox.", "The quick brown fox jumps over the lazy dog near the river bank."),
    told("Tell me of the owl.", "An old owl sleeps in the oak all day and hunts when the moon is up."),
    told("Erzähl vom Fluss.", "Der Fluss fließt langsam durch das weite grüne Tal bis zum Meer."),
]


@pytest.fixture
def lab(tmp_path: Path) -> DataLab:
    return DataLab(tmp_path / "store", tmp_path / "desk")


@pytest.fixture
def told_of(lab: DataLab) -> dict[str, Any]:
    """Three checkpoints: `first` on sums and tales, `second` on sums from it, `other` on its own; and their mixture."""
    sums = lab.stock("sums", SUMS, publisher="the school")
    tales = lab.stock("tales", TALES, licence="CC-BY-4.0", consent="", basis="legitimate-interests")
    anchors = lab.stock("calm", [told("Are you well?", "Yes, I am.")])
    both: Mixed = lab.mix(sums, tales, technique=[anchors])
    first = lab.train("first", both, [[0, 20], [20, 22], [3, 20]], [[23]] * 3)
    second = lab.train("second", lab.mix(sums), [[0, 1]], parent=first)
    other = lab.train("other", lab.mix(sums), [[5], [6]])
    return {"first": first, "second": second, "other": other, "mixture": both}


def test_a_row_leads_to_all_who_saw_it_or_inherited_it(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).row(row_id(TALES[0])[:8])

    assert found.row == row_id(TALES[0])
    assert [(o.source, o.role, o.line, o.licence, o.basis) for o in found.origins] == [
        ("tales", "train", 1, "CC-BY-4.0", "legitimate-interests")
    ]
    assert [(s.checkpoint, s.via, s.times, s.steps) for s in found.seen] == [
        (told_of["first"], "", 3, (1, 2, 3)),
        (told_of["second"], told_of["first"], 3, (1, 2, 3)),
    ]
    lines = "\n".join(row_lines(found))
    assert "seen by 1 checkpoint, inherited by 1 more" in lines
    assert "tales, kept row 1, licence CC-BY-4.0, basis legitimate-interests, -" in lines
    assert f"inherited from {told_of['first'][:12]}" in lines
    assert "fox" not in lines


def test_a_row_of_several_mixtures_names_its_source_in_each(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).row(row_id(SUMS[0]))
    assert [(s.checkpoint, s.via) for s in found.seen] == [
        (told_of["first"], ""),
        (told_of["second"], ""),
        (told_of["second"], told_of["first"]),
    ]


def test_a_row_that_was_admitted_and_never_seen_says_so(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).row(row_id(TALES[1]))
    assert found.seen == ()
    assert found.origins[0].source == "tales"
    assert "admitted, and seen by no checkpoint" in row_lines(found)[0]


def test_a_row_that_was_withdrawn_says_so(lab: DataLab, told_of: dict[str, Any]) -> None:
    both = [told_of["first"], told_of["second"]]
    withdrawal = withdrawn("row", row_id(TALES[0]), "", "asked for it", both)
    line = lab.store.commit(as_of(withdrawal, lab.store.standing().last_seq, []))
    tracer = Tracer(lab.root)
    assert tracer.row(row_id(TALES[0])).withdrawn == (line,)
    assert f"ledger line {line}" in "\n".join(row_lines(tracer.row(row_id(TALES[0]))))
    assert tracer.row(row_id(TALES[1])).withdrawn == ()
    sha256 = told_of["mixture"].stock["tales"].source.sha256
    line = lab.store.commit(withdrawn("source", "under another name", sha256, "asked for it", both))
    assert Tracer(lab.root).row(row_id(TALES[1])).withdrawn == (line,)
    assert Tracer(lab.root).row(row_id(SUMS[0])).withdrawn == ()


def test_an_anchor_of_a_technique_is_traced_as_one(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).row(row_id(told("Are you well?", "Yes, I am.")))
    assert [(s.checkpoint, s.times, s.origin.role) for s in found.seen] == [
        (told_of["first"], 3, "technique:kl_regularization"),
        (told_of["second"], 3, "technique:kl_regularization"),
    ]


def test_a_row_is_found_by_file_and_line(lab: DataLab, told_of: dict[str, Any], tmp_path: Path) -> None:
    path = lines(tmp_path / "tales.jsonl", TALES)
    assert row_named(f"{path}:1") == (row_id(TALES[0]),)
    assert Tracer(lab.root).row(f"{path}:1").seen[0].times == 3


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("abc", "neither the id of a row"),
        ("no hex digits", "neither the id of a row"),
        ("0" * 32, "no mixture of this store has the row 0000000000000000"),
        ("{path}:9", "tales.jsonl:9: no such line"),
        ("{path}:4", "tales.jsonl:4: not JSON: a value is expected"),
        ("{path}:5", "tales.jsonl:5: a row must be an object"),
        ("{path}:6", "tales.jsonl:6: a key stands twice in one object"),
        ("/nowhere/x.jsonl:1", "cannot be read"),
    ],
)
def test_what_names_no_row_is_one_clear_message(
    lab: DataLab, told_of: dict[str, Any], tmp_path: Path, named: str, why: str
) -> None:
    path = lines(tmp_path / "tales.jsonl", TALES)
    path.write_text(path.read_text() + "not json\n[1]\n" + '{"prompt": 1, "prompt": 2}\n')
    with pytest.raises(UsageError, match=why):
        Tracer(lab.root).row(named.format(path=path))


def test_only_what_a_model_can_learn_of_a_line_counts(tmp_path: Path) -> None:
    path = lines(tmp_path / "tales.jsonl", [{**TALES[0], "note": "from page 7"}])
    assert row_named(f"{path}:1") == (row_id(TALES[0]),)


def as_table(lab: DataLab, path: Path, name: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> Any:
    """Stock rows that were read from a file of another shape."""
    stocked = lab.stock(name, rows)
    read = replace(stocked.source, sha256=sha256_hex(path.read_bytes()), columns=columns)
    return replace(stocked, source=read)


def test_a_line_is_read_with_the_columns_of_the_source_that_pins_the_file(lab: DataLab, tmp_path: Path) -> None:
    path = lines(
        tmp_path / "asked.jsonl", [{"q": "Who?", "a": "An owl.", "page": 7}, {"q": "Why?", "a": "It is late."}]
    )
    named = f"{path}:2"
    with pytest.raises(UsageError, match=r"asked\.jsonl:2: a row here needs"):
        row_named(named, lab.store.events())
    rows = [told("Who?", "An owl."), told("Why?", "It is late.")]
    lab.train("c", lab.mix(as_table(lab, path, "asked", rows, {"prompt": "q", "completion": "a"})), [[1]])

    found = Tracer(lab.root).row(named)
    assert (found.row, len(found.seen)) == (row_id(rows[1]), 1)
    path.write_text(path.read_text() + "\n")  # other bytes: nobody admitted them
    with pytest.raises(UsageError, match=r"asked\.jsonl:2: a row here needs"):
        Tracer(lab.root).row(named)


def test_a_line_that_two_sources_read_differently_is_ambiguous(lab: DataLab, tmp_path: Path) -> None:
    path = lines(tmp_path / "asked.jsonl", [{"q": "Who?", "a": "An owl."}])
    forth, back = [told("Who?", "An owl.")], [told("An owl.", "Who?")]
    one = as_table(lab, path, "forth", forth, {"prompt": "q", "completion": "a"})
    two = as_table(lab, path, "back", back, {"prompt": "a", "completion": "q"})
    lab.train("c", lab.mix(one, two), [[0]])
    assert set(row_named(f"{path}:1", lab.store.events())) == {row_id(forth[0]), row_id(back[0])}
    with pytest.raises(UsageError, match="ambiguous"):
        Tracer(lab.root).row(f"{path}:1")


def test_a_checkpoint_leads_to_its_sources_over_the_whole_chain(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).checkpoint(told_of["second"])
    assert [
        [(s.origin.source, s.origin.role, s.kept, s.seen, s.times) for s in stage.sources] for stage in found.stages
    ] == [
        [("sums", "train", 20, 2, 2)],
        [("sums", "train", 20, 2, 2), ("tales", "train", 3, 2, 4), ("calm", "technique:kl_regularization", 1, 1, 3)],
    ]
    lines = "\n".join(checkpoint_lines(found))
    assert "2 of 20" in lines
    assert "the school" in lines
    assert "basis legitimate-interests" in lines


def test_a_checkpoint_of_which_nobody_knows_says_so_everywhere(lab: DataLab, told_of: dict[str, Any]) -> None:
    unknown = lab.train_unrecorded("old", told_of["first"])
    tracer = Tracer(lab.root)
    assert "nobody wrote down which rows it saw" in "\n".join(checkpoint_lines(tracer.checkpoint(unknown)))
    assert tracer.row(row_id(TALES[0])).unrecorded == (unknown,)
    assert "warning: of 1 checkpoint nobody wrote down" in row_lines(tracer.row(row_id(TALES[0])))[-1]
    near = tracer.near(unknown, "the lazy dog", 3)
    assert near.unrecorded == (unknown,)
    assert near.near[0].seen_by == told_of["first"]
    alone = lab.train_unrecorded("alone")
    with pytest.raises(UsageError, match="nobody wrote down which rows"):
        Tracer(lab.root).near(alone, "the lazy dog", 3)


def test_an_answer_leads_to_the_rows_near_it_that_were_seen(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).near(told_of["second"], "A quick brown fox jumped over a lazy dog.", 3)
    assert found.compared == 6  # 0 and 1 of its own, and 20, 22, 3 and the anchor of the ancestor
    assert found.near[0].row == row_id(TALES[0])
    assert found.near[0].origin.source == "tales"
    assert found.near[0].seen_by == told_of["first"]
    assert found.near[0].times == 3
    assert 0 < found.near[0].score < 1
    text = "\n".join(output_lines(found))
    assert "licence CC-BY-4.0" in text
    assert "fox" not in text  # rows are shown only to who asks
    assert "quick" not in json_text(record(found))


def test_a_row_that_nobody_saw_is_not_near(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).near(told_of["first"], TALES[1]["completion"][0]["content"], 10)
    assert row_id(TALES[1]) not in [one.row for one in found.near]


def test_an_answer_that_shares_no_word_has_no_near_row(lab: DataLab, told_of: dict[str, Any]) -> None:
    found = Tracer(lab.root).near(told_of["other"], "xylophon zwitschert", 3)
    assert found.near == ()
    assert "no row shares a word with it" in output_lines(found)[1]
    with pytest.raises(UsageError, match="the answer is empty"):
        Tracer(lab.root).near(told_of["other"], " \n", 3)


def test_the_answer_of_the_last_gate_is_found_by_its_item(lab: DataLab) -> None:
    checkpoint, _ = lab.story.gate("gated")
    tracer = Tracer(lab.root)
    evidence = lab.store.standing().checkpoints[checkpoint].gates[-1].evidence
    first = json.loads((lab.store.objects.path(evidence) / "items.jsonl").read_bytes().splitlines()[0])
    assert tracer.answer(checkpoint, f"{first['suite']}/{first['item_id']}") == first["output"]
    with pytest.raises(UsageError, match="did not ask"):
        tracer.answer(checkpoint, "harmful/none")
    with pytest.raises(UsageError, match="did not ask"):
        tracer.answer(checkpoint, "nothing")


def test_damage_is_an_error_and_no_answer(lab: DataLab, told_of: dict[str, Any]) -> None:
    damage_rows(lab, told_of["mixture"].parts[1].data)
    with pytest.raises(IntegrityError, match=r"has a changed rows\.jsonl"):
        Tracer(lab.root).near(told_of["second"], "the lazy dog", 3)
    with pytest.raises(IntegrityError):
        Tracer(lab.root).checkpoint(told_of["first"])


def test_what_hostile_sources_and_rows_say_is_harmless(lab: DataLab) -> None:
    hostile = "\x1b[2J\u202e::error::"
    row = told(f"fox {hostile}", f"dog {hostile}" * 50)
    stocked = lab.stock(f"src {hostile}", [row], licence=hostile, consent=hostile, publisher=hostile)
    checkpoint = lab.train("one", lab.mix(stocked), [[0]])
    tracer = Tracer(lab.root)
    text = [
        *row_lines(tracer.row(row_id(row), show=True)),
        *checkpoint_lines(tracer.checkpoint(checkpoint)),
        *output_lines(tracer.near(checkpoint, "the dog and the fox", 3, show=True)),
    ]
    assert sum("fox \\x1b" in line for line in text) == 2
    assert not any(c in line for line in text for c in "\x1b\u202e\n")
    assert all(len(line) < 400 for line in text)


# -- near --------------------------------------------------------------------------------------------------------------


def near(text: str, rows: list[str], count: int = 3) -> list[int]:
    found, _ = nearest(text, lambda: enumerate(rows), count)
    return [one.key for one in found]


def test_a_row_in_other_words_is_nearer_than_one_of_another_matter() -> None:
    rows = ["the weather is fine today", "boats sail along the coasts", "a boat sails along the coast slowly"]
    assert near("A boat sailed along the coast.", rows)[0] == 2


def test_a_copy_is_nearest_whatever_is_around_it() -> None:
    chance = random.Random(1)
    words = [f"w{n}" for n in range(300)]
    rows = [" ".join(chance.choices(words, k=60)) for _ in range(500)]
    text = " ".join(chance.choices(words, k=30))
    rows[137] = f"{rows[137]} {text} {rows[138]}"
    found, compared = nearest(text, lambda: enumerate(rows), 5)
    assert compared == 500
    assert found[0].key == 137
    assert found[0].shared == 1.0
    assert found[0].score > 2 * found[1].score


def test_a_whole_copy_scores_1_and_shares_all() -> None:
    found, _ = nearest("one two three four five", lambda: [(0, "one two three four five"), (1, "six")], 2)
    assert [(one.key, round(one.score, 9), one.shared) for one in found] == [(0, 1.0, 1.0)]


def test_scripts_without_spaces_are_compared() -> None:
    assert near("今日は天気がいい", ["明日は雨です", "今日の天気はいいです", "hello"])[0] == 1


def test_rarer_words_weigh_more() -> None:
    rows = ["the the the of of a"] * 50 + ["quasar"]
    assert near("the quasar of a", rows)[0] == 50


def test_many_rows_take_little_time(steady: None) -> None:
    """5,000 rows of 1 KB in two passes; a million takes minutes, and no more memory."""
    chance = random.Random(2)
    words = [f"word{n}" for n in range(3000)]
    rows = [" ".join(chance.choices(words, k=130)) for _ in range(5000)]
    began = time.process_time()
    nearest(rows[7][:400], lambda: enumerate(rows), 10)
    assert time.process_time() - began < 5


# -- excerpts ----------------------------------------------------------------------------------------------------------


def test_an_excerpt_is_shown_to_who_asks_and_holds_no_person(lab: DataLab) -> None:
    row = told("Who is it?", "Write to jane.doe@example.org or call." + " And so on." * 100)
    checkpoint = lab.train("one", lab.mix(lab.stock("mail", [row])), [[0]])
    tracer = Tracer(lab.root)
    shown = [*row_lines(tracer.row(row_id(row), show=True)), *output_lines(tracer.near(checkpoint, "write", 1, True))]
    text = "\n".join(shown)
    assert text.count("user: Who is it? | assistant: Write to [EMAIL] or call.") == 2
    assert "jane" not in text
    assert max(map(len, shown)) < 300
