"""Logs of Inspect AI, written by hand in its format: what becomes an item, what is named, what is refused."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pytest

from safetune.core.errors import UsageError
from safetune.engine.importing import Choice, Imported, as_recorded, detect, inspect_zip, read_results

STORED, DEFLATED, ZSTANDARD = 0, 8, 93


def sample(n: int, value: object = "C", **changes: object) -> dict[str, Any]:
    """One sample as Inspect logs it, with the fields that matter here."""
    message = {"role": "assistant", "content": f"Answer {n}."}
    row = {
        "id": f"q-{n}",
        "epoch": 1,
        "input": f"Question {n}?",
        "target": "",
        "output": {"model": "m", "choices": [{"message": message, "stop_reason": "stop"}]},
        "scores": {"exact": {"value": value, "history": []}},
        "metadata": {"topic": "rivers" if n % 2 else "bridges", "group": n // 2},
        "events": [{"event": "model"}],
    }
    return {**row, **changes}


def log(samples: list[dict[str, Any]], /, **changes: object) -> dict[str, Any]:
    """A log that ended well."""
    ids = [row["id"] for row in samples if row["epoch"] == 1]
    header = {
        "version": 2,
        "status": "success",
        "eval": {
            "task": "geography",
            "model": "hf/tiny",
            "dataset": {"samples": len(ids), "sample_ids": ids},
            "config": {"epochs": max((row["epoch"] for row in samples), default=1)},
            "packages": {"inspect_ai": "0.3.285"},
        },
        "results": {"total_samples": len(samples), "completed_samples": len(samples)},
        "samples": samples,
    }
    return {**header, **changes}


def read(folder: Path, content: object, choice: Choice | None = None) -> Imported:
    path = folder / "log.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_results(path, "geography", "candidate", choice)


@dataclass(frozen=True)
class Member:
    """A member of an archive; `size` and `crc` are what its headers say, if not the truth."""

    name: str
    content: bytes
    method: int = ZSTANDARD
    size: int | None = None
    crc: int | None = None
    flags: int = 0


def archive(members: list[Member]) -> bytes:
    """A zip archive, byte by byte, so that it can lie."""
    body, directory = b"", b""
    for member in members:
        packed = member.content
        if member.method == ZSTANDARD:
            packed = pyarrow.compress(member.content, codec="zstd", asbytes=True)
        if member.method == DEFLATED:
            packed = zlib.compress(member.content)[2:-4]
        size = len(member.content) if member.size is None else member.size
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        name = member.name.encode()
        common = struct.pack("<HHHHHIIIHH", 45, member.flags, member.method, 0, 0, crc, len(packed), size, len(name), 0)
        directory += (
            b"PK\x01\x02" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name
        )
        body += b"PK\x03\x04" + common + name + packed
    count = len(members)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def eval_members(samples: list[dict[str, Any]], method: int = ZSTANDARD) -> list[Member]:
    """The members of a finished `.eval` file."""
    header = {name: value for name, value in log(samples).items() if name != "samples"}
    rows = [Member(f"samples/{s['id']}_epoch_{s['epoch']}.json", json.dumps(s).encode(), method) for s in samples]
    start = Member("_journal/start.json", b"{}", method)
    return [start, *rows, Member("header.json", json.dumps(header).encode(), method)]


def read_archive(folder: Path, members: list[Member]) -> Imported:
    path = folder / "log.eval"
    path.write_bytes(archive(members))
    return read_results(path, "geography", "candidate")


@pytest.mark.parametrize(
    ("value", "label", "score"),
    [
        ("C", "correct", 1.0),
        ("I", "incorrect", 0.0),
        ("P", "partial", 0.5),
        ("N", "no-answer", 0.0),
        ("yes", "correct", 1.0),
        ("False", "incorrect", 0.0),
        (1, "correct", 1.0),
        (0.0, "incorrect", 0.0),
        (True, "correct", 1.0),
        (False, "incorrect", 0.0),
    ],
)
def test_a_score_becomes_a_label_and_a_number(tmp_path: Path, value: object, label: str, score: float) -> None:
    item = read(tmp_path, log([sample(1, value)])).items[0]
    assert (item.label, item.judge_score) == (label, score)
    assert item.judge == "inspect/exact@0.3.285"
    assert (item.item_id, item.sample, item.output) == ("q-1", 0, "Answer 1.")
    assert (item.suite, item.arm) == ("geography", "candidate")


@pytest.mark.parametrize(
    ("value", "label", "score"),
    [(0.79, "incorrect", 0.79), (0.8, "correct", 0.8), (7, "correct", 1.0), ("P", "incorrect", 0.5)],
)
def test_a_named_threshold_decides_what_counts(tmp_path: Path, value: object, label: str, score: float) -> None:
    item = read(tmp_path, log([sample(1, value)]), Choice(pass_at=0.8)).items[0]
    assert (item.label, item.judge_score) == (label, score)


@pytest.mark.parametrize(
    "value", [0.5, 7, -1, float("nan"), float("inf"), "maybe", "c", [1, 0], {"a": 1}, None, 10**400]
)
def test_a_score_that_is_no_clear_answer_is_named_and_not_an_item(tmp_path: Path, value: object) -> None:
    found = read(tmp_path, log([sample(1), sample(2, value)]))
    assert [item.item_id for item in found.items] == ["q-1"]
    assert found.expected == 2
    assert not found.complete
    assert len(found.incomplete) == 1
    assert found.incomplete[0].startswith("q-2: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"error": {"message": "the server went away"}},
        {"invalidation": {"author": "me"}},
        {"limit": {"type": "time", "limit": 5}},
        {"output": {"choices": []}},
        {"scores": None},
        {"scores": {"other": {"value": "C"}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_sample_that_did_not_end_well_is_named_and_not_an_item(tmp_path: Path, changes: dict[str, object]) -> None:
    found = read(tmp_path, log([sample(1), sample(2, **changes)]), Choice(scorer="exact"))
    assert [item.item_id for item in found.items] == ["q-1"]
    assert [name.split(":")[0] for name in found.incomplete] == ["q-2"]
    assert not found.complete


def test_samples_that_are_not_in_the_file_are_counted(tmp_path: Path) -> None:
    content = log([sample(1), sample(2), sample(3)])
    del content["samples"][1]
    found = read(tmp_path, content)
    assert (len(found.items), found.expected) == (2, 3)
    assert found.incomplete == ("1 of 3 samples are not in the file",)


def test_the_dataset_counts_where_the_results_say_less(tmp_path: Path) -> None:
    content = log([sample(1), sample(2)], results={"total_samples": 1})
    del content["samples"][1]
    assert read(tmp_path, content).expected == 2


@pytest.mark.parametrize("status", ["started", "cancelled", "error", None])
def test_a_run_that_did_not_end_well_is_refused(tmp_path: Path, status: object) -> None:
    with pytest.raises(UsageError, match=f'the run ended with status "{status}"'):
        read(tmp_path, log([sample(1)], status=status))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (log([sample(1)], invalidated=True), "marked samples of this log as invalid"),
        (log([sample(1)], samples=[]), "has no samples"),
        (log([sample(1)], samples=None), "has no samples"),
        (log([sample(1)], samples=[5]), "sample 1 is not an object"),
        (log([sample(1)], results=None), "`total_samples` is not a whole number"),
        (log([sample(1, id=None)]), "the id of a sample"),
        (log([sample(1, id="a\nb")]), "the id of a sample"),
        (log([sample(1, epoch="1")]), "`epoch` is not a whole number"),
        (log([sample(1), sample(1)]), "item q-1 is there twice"),
        (log([sample(1), sample(1, epoch=2, input="Another?")]), "item q-1 has two different prompts"),
        (log([sample(1, input=[])]), "`input` has something else than messages"),
        (log([sample(1, input=7)]), "`text` is not text"),
        (log([sample(1, scores={})]), "has no scores"),
        (log([sample(1, scores=[])]), "`scores` is not an object"),
        (log([sample(1), sample(2), sample(3)], eval={}, results={"total_samples": 1}), "3 samples, but the run"),
        (log([sample(1, input="half \ud800 pair")]), "half a surrogate pair"),
    ],
)
def test_a_log_that_cannot_be_used_is_refused_with_its_name(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UsageError, match=r"log\.json.*" + message):
        read(tmp_path, content)


def test_of_several_scorers_one_must_be_named(tmp_path: Path) -> None:
    both = {"exact": {"value": "I"}, "grader": {"value": "C"}}
    content = log([sample(1, scores=both)])
    with pytest.raises(UsageError, match="2 scorers") as caught:
        read(tmp_path, content)
    assert "exact, grader" in caught.value.hint
    item = read(tmp_path, content, Choice(scorer="grader")).items[0]
    assert (item.judge, item.label) == ("inspect/grader@0.3.285", "correct")
    with pytest.raises(UsageError, match='no scorer "gradar"'):
        read(tmp_path, content, Choice(scorer="gradar"))


def test_epochs_are_samples_of_one_item(tmp_path: Path) -> None:
    found = read(tmp_path, log([sample(1), sample(1, epoch=2)]))
    assert [(i.item_id, i.sample) for i in found.items] == [("q-1", 0), ("q-1", 1)]
    assert found.complete
    assert len(as_recorded(found)) == 1


def test_slices_and_clusters_come_from_the_metadata(tmp_path: Path) -> None:
    found = read(tmp_path, log([sample(1), sample(2)]), Choice(slice="topic", cluster="group"))
    assert [(i.slice, i.cluster) for i in found.items] == [("rivers", "0"), ("bridges", "1")]
    with pytest.raises(UsageError, match='no column "topik"') as caught:
        read(tmp_path, log([sample(1)]), Choice(slice="topik"))
    assert "group, topic" in caught.value.hint


def test_long_texts_that_are_kept_beside_the_sample_are_put_back(tmp_path: Path) -> None:
    row = sample(1, input="attachment://abc", attachments={"abc": "A long question?"})
    found = read(tmp_path, log([row]))
    assert found.prompts == {"q-1": "A long question?"}
    with pytest.raises(UsageError, match="`abd` is not text"):
        read(tmp_path, log([sample(1, input="attachment://abd", attachments={"abc": "x"})]))


def test_a_prompt_of_messages_and_an_answer_of_parts_are_read(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    parts = [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "Be"},
        {"type": "text", "text": "cause."},
    ]
    row = sample(1, input=messages, output={"choices": [{"message": {"content": parts}}]})
    found = read(tmp_path, log([row, sample(2, input=[{"role": "user", "content": "Only this?"}])]))
    assert found.prompts == {"q-1": "system: Be brief.\nuser: Why?", "q-2": "Only this?"}
    assert found.items[0].output == "Because."
    assert as_recorded(found)[1] == {"prompt": "Only this?", "output": "Answer 2."}


def test_scores_that_were_edited_are_said(tmp_path: Path) -> None:
    row = sample(1, scores={"exact": {"value": "C", "history": [{"value": "I"}]}})
    assert any("1 score(s) were edited" in note for note in read(tmp_path, log([row])).notes)


@pytest.mark.parametrize("method", [STORED, DEFLATED, ZSTANDARD])
def test_an_archive_holds_what_the_json_log_holds(tmp_path: Path, method: int) -> None:
    samples = [sample(1), sample(2, "I"), sample(3, "P")]
    path = tmp_path / "log.eval"
    path.write_bytes(archive(eval_members(samples, method)))
    assert detect(path) == "inspect"
    found = read_results(path, "geography", "candidate")
    assert found.items == read(tmp_path, log(samples)).items
    assert found.complete
    assert found.identity.startswith("inspect:")
    assert len(found.identity) == len("inspect:") + 64


def test_an_archive_of_a_run_that_did_not_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no header\.json: the run did not end"):
        read_archive(tmp_path, eval_members([sample(1)])[:-1])


def test_samples_that_inspect_kept_in_pieces_are_refused_with_a_way_out(tmp_path: Path) -> None:
    pieces = [Member(f"samples/q-9_epoch_1/{name}", b"{}", STORED) for name in ("sample.json", "messages/0.json")]
    with pytest.raises(UsageError, match="kept in pieces") as caught:
        read_archive(tmp_path, [*eval_members([sample(1)]), *pieces])
    assert "inspect log convert" in caught.value.hint


@pytest.mark.parametrize("name", ["../header.json", "/etc/passwd", "samples/../../x.json", "a\\b.json", "a\x1bb.json"])
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="leads out of it"):
        read_archive(tmp_path, [*eval_members([sample(1)]), Member(name, b"{}", STORED)])


@pytest.mark.parametrize("method", [STORED, DEFLATED, ZSTANDARD])
def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path, method: int) -> None:
    members = eval_members([sample(1)], method)
    content = json.dumps(sample(2)).encode() + b" " * 2_000_000
    members.insert(1, Member("samples/q-2_epoch_1.json", content, method, size=5000))
    with pytest.raises(UsageError, match=r"unpacks to more than it says|is broken"):
        read_archive(tmp_path, members)


@pytest.mark.parametrize("method", [STORED, DEFLATED, ZSTANDARD])
def test_a_member_that_was_changed_is_refused(tmp_path: Path, method: int) -> None:
    members = eval_members([sample(1)], method)
    members[1] = Member(members[1].name, members[1].content, method, crc=7)
    with pytest.raises(UsageError, match="is broken"):
        read_archive(tmp_path, members)


def test_a_bomb_is_refused_by_what_it_says_and_unpacked_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Member("samples/q-2_epoch_1.json", b"{}", STORED, size=inspect_zip.MEMBER_BYTES + 1)
    with pytest.raises(UsageError, match="would unpack to more than 64 MiB"):
        read_archive(tmp_path, [*eval_members([sample(1)]), huge])
    many = [Member(f"samples/{n}.json", b"{}", STORED, size=inspect_zip.MEMBER_BYTES) for n in range(17)]
    with pytest.raises(UsageError, match="would unpack to more than 1024 MiB"):
        read_archive(tmp_path, [*eval_members([sample(1)]), *many])
    monkeypatch.setattr(inspect_zip, "MEMBERS", 2)
    with pytest.raises(UsageError, match="too many members"):
        read_archive(tmp_path, eval_members([sample(1)]))


@pytest.mark.parametrize(
    "member", [Member("x", b"{}", STORED, flags=1), Member("x", b"{}", 12), Member("x", b"{}", 99)]
)
def test_an_encrypted_or_strangely_compressed_member_is_refused(tmp_path: Path, member: Member) -> None:
    with pytest.raises(UsageError, match="is encrypted or compressed in an unknown way") as caught:
        read_archive(tmp_path, [*eval_members([sample(1)]), member])
    assert "inspect log convert" in caught.value.hint


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    members = eval_members([sample(1)])
    with pytest.raises(UsageError, match="two of the same name"):
        read_archive(tmp_path, [*members, members[0]])


def test_a_broken_zstandard_stream_is_refused(tmp_path: Path) -> None:
    data = bytearray(archive(eval_members([sample(1)])))
    at = data.index(b"\x28\xb5\x2f\xfd", data.index(b"samples/"))
    data[at + 4 : at + 40] = b"\xff" * 36
    path = tmp_path / "log.eval"
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"could not be unpacked|is broken"):
        read_results(path, "s", "candidate")


@pytest.mark.parametrize("kept", [10, 200, 0.5, 0.9])
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    data = archive(eval_members([sample(1), sample(2)]))
    path = tmp_path / "log.eval"
    path.write_bytes(data[: int(kept if kept > 1 else kept * len(data))])
    with pytest.raises(UsageError, match="is no whole zip archive"):
        read_results(path, "s", "candidate")
