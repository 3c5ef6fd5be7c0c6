"""The data desk: outcomes that plans remember, outcomes that a run may train on, and sources that may not be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sourcelab import jsonl, row, sha

from safetune.core.data_policy import Admission, DataPolicy, GuardSettings
from safetune.core.digest import canonical
from safetune.core.errors import IntegrityError, RunError, StalePlanError, UsageError
from safetune.core.events import as_of, withdrawn
from safetune.core.playbook import Inputs, ModelRef, Playbook, Promotion, Source, Sprint, Stage, Technique
from safetune.core.row_id import row_id
from safetune.core.standing import Standing
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine.data import desk, guarding
from safetune.engine.data.desk import Memory, admit, recorded, scope_of, survey_data, trained_on, withdrawn_ids
from safetune.engine.data.guarding import Guards
from safetune.engine.data.mixture import mixture_content, parts_of, read_mixture, rows_of, store_mixture
from safetune.engine.data.stage_rows import StageRows
from safetune.engine.data.staging import Staging
from safetune.engine.prompts import load_prompts
from safetune.protocols import Progress
from safetune.state.lock import FileLock
from safetune.state.store import Store

ALLOWED = Admission(allow=("MIT",))
POLICY = DataPolicy(ALLOWED, (GuardSettings("pii", "redact"),))


def silent(_: Progress) -> None:
    """Listen to nothing."""


def source(folder: Path, name: str, data: bytes, **changes: Any) -> Source:
    path = folder / f"{name}.jsonl"
    path.write_bytes(data)
    return replace(Source(name, str(path), sha(data), "MIT", "made here", "written", ("train",)), **changes)


def book(*sources: Source, policy: DataPolicy = POLICY, anchors: str = "") -> Playbook:
    technique = (Technique("kl_regularization", {}, ((anchors, 1.0),)),) if anchors else ()
    shares = tuple((s.name, 1.0) for s in sources if s.name != anchors)
    stage = Stage("t", "sft", shares, {}, None, technique, (), 0)
    sprint = Sprint("one", "o", (), (stage,))
    inputs = Inputs(sources, policy)
    return Playbook("b", "p", ("us",), ModelRef("folder", "/m"), inputs, (), (), (sprint,), (), Promotion("s"), "d", "")


def surveyed(one: Playbook, memory: Memory | None = None, standing: Standing = Standing()) -> Any:  # noqa: B008
    scope = scope_of(one, load_prompts, frozenset(standing.withdrawn_rows))
    return survey_data(one, scope, (), standing, (memory or Memory(None), silent))


ROW = jsonl(row())


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (b"", "rows.jsonl has no rows"),
        (b"\n \n", "rows.jsonl"),
        (ROW + b"{nothing", "rows.jsonl:2: not JSON"),
        (b"\xff\n", "rows.jsonl:1: not UTF-8"),
        (b"[1]\n", "rows.jsonl:1: a row must be an object"),
        (ROW + ROW.replace(b"assistant", b"user"), "rows.jsonl:2: the last message of `completion`"),
        (ROW.replace(b"prompt", b"question"), "rows.jsonl:1: "),
    ],
)
def test_rows_that_nothing_could_be_trained_on_are_named_by_line(tmp_path: Path, rows: bytes, wrong: str) -> None:
    found = surveyed(book(source(tmp_path, "rows", rows)))["rows"]
    assert found.problem.startswith(wrong)
    assert not found.rows_sha256


def test_only_sources_that_are_used_are_looked_at_in_their_order(tmp_path: Path) -> None:
    first, second, idle = (source(tmp_path, name, ROW) for name in ("first", "second", "idle"))
    one = book(first, second, anchors="second")
    one = replace(one, inputs=replace(one.inputs, sources=(idle, first, second)))
    assert [s.name for s in trained_on(one)] == ["first", "second"]
    assert list(surveyed(one)) == ["first", "second"]


def test_what_comes_after_a_broken_source_is_not_guarded(tmp_path: Path) -> None:
    found = surveyed(book(source(tmp_path, "first", b"{"), source(tmp_path, "second", ROW)))
    assert found["second"].problem == "the source first before it cannot be guarded"


def test_a_plan_remembers_what_guards_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = book(source(tmp_path, "rows", jsonl(row("Write to ann@mail.example.org."), row())))
    fresh = surveyed(one, Memory(tmp_path / "work"))
    assert fresh["rows"].counts == {"pii/email/redact": 1}

    def refuse(*_: object) -> None:
        raise AssertionError("the rows were gone through again")

    monkeypatch.setattr(guarding, "read", refuse)
    assert surveyed(one, Memory(tmp_path / "work")) == fresh
    changed = book(*one.sources, policy=DataPolicy(ALLOWED, (GuardSettings("pii", "drop"),)))
    with pytest.raises(AssertionError, match="gone through again"):
        surveyed(changed, Memory(tmp_path / "work"))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"name": "rows"}]', b"\xff", b"null"])
def test_a_damaged_memory_is_only_slow(tmp_path: Path, content: bytes) -> None:
    one = book(source(tmp_path, "rows", ROW))
    (tmp_path / "guarded.json").write_bytes(content)
    assert surveyed(one, Memory(tmp_path))["rows"].kept == 1
    assert json.loads((tmp_path / "guarded.json").read_bytes())[0]["name"] == "rows"


def test_a_source_that_is_not_admitted_has_a_problem_whatever_its_rows(tmp_path: Path) -> None:
    for change, word in (
        ({"licence": "unknown"}, "licence"),
        ({"licence": "GPL-3.0-only"}, "GPL-3.0-only"),
        ({"consent": "n/a"}, "consent"),
    ):
        found = surveyed(book(source(tmp_path, "rows", ROW, **change)))["rows"]
        assert found.problem.startswith("not admitted: ")
        assert word in found.problem
    warned = DataPolicy(replace(ALLOWED, on_problem="warn", otherwise="warn"))
    found = surveyed(book(source(tmp_path, "rows", ROW, licence="GPL-3.0-only"), policy=warned))["rows"]
    assert not found.problem
    assert "GPL-3.0-only" in found.warning


def test_a_problem_of_admission_is_not_remembered(tmp_path: Path) -> None:
    """The rows are the same; what is declared of them may be mended."""
    bad = source(tmp_path, "rows", ROW, licence="unknown")
    assert surveyed(book(bad), Memory(tmp_path / "work"))["rows"].problem
    assert not surveyed(book(replace(bad, licence="MIT")), Memory(tmp_path / "work"))["rows"].problem


# -- into the store ----------------------------------------------------------------------------------------------------


def admitted(one: Playbook, store: Store, planned: Any = None) -> Any:
    scope = scope_of(one, load_prompts, withdrawn_ids(store))
    return admit(one, scope, surveyed(one) if planned is None else planned, store, silent)


def test_admitted_rows_lie_in_the_store_and_are_taken_from_there_once_the_ledger_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = book(source(tmp_path, "rows", jsonl(row("Write to ann@mail.example.org."), row())))
    store = Store.create(tmp_path / "store")
    found = admitted(one, store)
    outcome = found["rows"].outcome
    data = store.objects.path(outcome.data)
    assert sorted(path.name for path in data.iterdir()) == [
        "MANIFEST.json",
        "data.json",
        "findings.jsonl",
        "rows.jsonl",
    ]
    assert b"ann@mail" not in (data / "rows.jsonl").read_bytes()
    assert json.loads((data / "data.json").read_bytes())["source"]["consent"] == "made here"
    stage = one.sprints[0].stages[0]
    parts = parts_of(stage, found)
    mixture = store_mixture(mixture_content(one, stage, parts, found), {}, store.objects, tmp_path / "mixture")
    read = read_mixture(store.objects, mixture)
    assert read.parts == parts
    assert [found_id for found_id, _ in rows_of(store.objects, parts[0])] == [
        json.loads(line)["id"] for line in (data / "rows.jsonl").read_bytes().splitlines()
    ]
    store.commit(StageRows(mixture, parts, found, store.objects).draft("key"))
    assert recorded(store.events())[outcome.key] == outcome

    def refuse(*_: object) -> None:
        raise AssertionError("the rows were gone through again")

    planned = surveyed(one)
    monkeypatch.setattr(guarding, "read", refuse)
    assert admitted(one, store, planned)["rows"].outcome == outcome


def test_a_plan_that_saw_other_rows_trains_nothing(tmp_path: Path) -> None:
    one = book(source(tmp_path, "rows", ROW))
    store = Store.create(tmp_path / "store")
    forged = replace(surveyed(one)["rows"], rows_sha256="0" * 64)
    with pytest.raises(IntegrityError, match="the plan was made for 000000000000; nothing was trained"):
        admitted(one, store, {"rows": forged})
    with pytest.raises(IntegrityError, match="the plan was made for none"):
        admitted(one, store, {})


def test_a_forged_memory_cannot_bring_other_rows_in(tmp_path: Path) -> None:
    one = book(source(tmp_path, "rows", jsonl(row("Write to ann@mail.example.org."), row())))
    store = Store.create(tmp_path / "store")
    memory = Memory(tmp_path / "store" / "work")
    true = surveyed(one)["rows"]
    memory.add(replace(true, rows_sha256=sha(b"other rows"), kept=1))
    memory.save()
    planned = surveyed(one, Memory(tmp_path / "store" / "work"))
    assert planned["rows"].rows_sha256 == sha(b"other rows")  # a plan may rest on it
    with pytest.raises(IntegrityError, match="nothing was trained"):
        admitted(one, store, planned)


def test_a_blocked_source_and_one_that_is_not_admitted_do_not_get_in(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    blocking = DataPolicy(ALLOWED, (GuardSettings("pii", "block"),))
    with pytest.raises(UsageError, match="guards block it: 1 x pii/email"):
        admitted(book(source(tmp_path, "rows", jsonl(row("To ann@mail.example.org."))), policy=blocking), store)
    with pytest.raises(UsageError, match="not admitted"):
        admitted(book(source(tmp_path, "rows", ROW, licence="unknown")), store)
    assert not list((tmp_path / "store" / "work").rglob("rows.jsonl"))


def test_damage_to_stored_rows_is_found_before_they_train_anything(tmp_path: Path) -> None:
    one = book(source(tmp_path, "rows", ROW))
    store = Store.create(tmp_path / "store")
    found = admitted(one, store)
    stage = one.sprints[0].stages[0]
    parts = parts_of(stage, found)
    mixture = store_mixture(mixture_content(one, stage, parts, found), {}, store.objects, tmp_path / "mixture")
    store.commit(StageRows(mixture, parts, found, store.objects).draft("key"))
    rows = store.objects.path(found["rows"].outcome.data) / "rows.jsonl"
    rows.chmod(0o600)
    rows.write_bytes(rows.read_bytes().replace(b"Because", b"Besides"))
    with pytest.raises(IntegrityError):
        admitted(one, store)


# -- what was withdrawn, what cannot be compared, who else is at work --------------------------------------------------


def committed(one: Playbook, store: Store, folder: Path, key: str = "key") -> Any:
    """Admit the rows of a playbook and write the ledger line."""
    found = admitted(one, store)
    stage = one.sprints[0].stages[0]
    parts = parts_of(stage, found)
    mixture = store_mixture(mixture_content(one, stage, parts, found), {}, store.objects, folder / "mixture")
    store.commit(StageRows(mixture, parts, found, store.objects).draft(key))
    return found


def test_rows_of_a_withdrawn_source_stay_out_under_any_other_name(tmp_path: Path) -> None:
    mine, other = row("Mine?"), row("Whose?")
    store = Store.create(tmp_path / "store")
    first = book(source(tmp_path, "mine", jsonl(mine)))
    committed(first, store, tmp_path)
    sha256 = first.sources[0].sha256
    store.commit(withdrawn("source", "mine", sha256, "asked", []))
    assert surveyed(first, standing=store.standing())["mine"].problem.startswith("it was withdrawn in ledger line 2")
    again = book(source(tmp_path, "chats", jsonl(mine, other) + b"\n"))
    scope = scope_of(again, load_prompts, withdrawn_ids(store))
    found = survey_data(again, scope, store.events(), store.standing(), (Memory(None), silent))
    assert found["chats"].counts == {"rows/withdrawn/drop": 1}
    assert (found["chats"].rows, found["chats"].kept) == (2, 1)


def test_a_row_that_is_withdrawn_after_the_plan_trains_nothing(tmp_path: Path) -> None:
    one = book(source(tmp_path, "rows", jsonl(row("Mine?"), row("Whose?"))))
    store = Store.create(tmp_path / "store")
    scope, planned = scope_of(one, load_prompts, withdrawn_ids(store)), surveyed(one)
    store.commit(as_of(withdrawn("row", row_id(row("Mine?")), "", "asked", []), 0, []))
    with pytest.raises(StalePlanError, match="was withdrawn since the plan was made"):
        admit(one, scope, planned, store, silent)
    assert admitted(one, store, _fresh(one, store))["rows"].outcome.kept == 1


def _fresh(one: Playbook, store: Store) -> Any:
    scope = scope_of(one, load_prompts, withdrawn_ids(store))
    return survey_data(one, scope, store.events(), store.standing(), (Memory(None), silent))


def test_guards_that_compare_with_suites_need_all_of_them(tmp_path: Path) -> None:
    """A suite whose file is missing must not let rows pass that hold its prompts."""
    about, gone = About("d", "MIT", "here"), PromptSource("bundled", str(tmp_path / "gone.jsonl"))
    suite = Suite("asks", about, gone, Named("refusal"), (), Decoding(6))
    one = book(source(tmp_path, "rows", ROW), policy=DataPolicy(ALLOWED, (GuardSettings("contamination", "drop"),)))
    one = replace(one, suites=(suite,))
    assert surveyed(one)["rows"].problem.startswith("the guard contamination cannot compare it with a suite")
    with pytest.raises(UsageError, match="cannot compare it with a suite"):
        admitted(one, Store.create(tmp_path / "store"), {})
    off = book(*one.sources, policy=DataPolicy(ALLOWED, (GuardSettings("contamination", "off"),)))
    assert not surveyed(replace(off, suites=(suite,)))["rows"].problem


def test_what_somebody_left_in_the_work_folder_does_not_get_in(tmp_path: Path) -> None:
    """Nothing seals a mark against who may write there: rows for training are looked at from the first one on."""
    one = book(source(tmp_path, "rows", jsonl(*(row(f"Number {n}?") for n in range(4)))))
    store = Store.create(tmp_path / "store")
    scope = scope_of(one, load_prompts)
    key = Guards(scope).key(one.sources[0])
    folder = tmp_path / "store" / "work" / "guarding" / key[:32]
    forged = Staging(folder, key)
    forged.rows([("f" * 32, canonical(row("Forged?")))])
    forged.set_mark({"rows": 4, "kept": 1, "bad": 0, "flagged": 0, "counts": {}, "places": {}, "first_bad": ""})
    for file in forged._files.values():
        file.close()
    outcome = admitted(one, store)["rows"].outcome
    assert outcome.kept == 4
    assert b"Forged" not in (store.objects.path(outcome.data) / "rows.jsonl").read_bytes()


def test_two_runs_do_not_write_the_same_rows_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = book(source(tmp_path, "rows", ROW))
    store = Store.create(tmp_path / "store")
    key = Guards(scope_of(one, load_prompts)).key(one.sources[0])
    (tmp_path / "store" / "work" / "guarding").mkdir(parents=True)
    monkeypatch.setattr(desk, "_WAIT_SECONDS", 0.1)
    lock = tmp_path / "store" / "work" / "guarding" / f"{key[:32]}.lock"
    with FileLock(lock, 1.0, "a test"), pytest.raises(RunError, match="the rows of source rows"):
        admitted(one, store)
    assert admitted(one, store)["rows"].outcome.kept == 1
