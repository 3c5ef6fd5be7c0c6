"""What a survey finds: pinned sources, plugins by name, what training took, free disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.builtin.judges.refusal import RefusalJudge
from safetune.core.digest import JSON
from safetune.core.events import Event
from safetune.core.plan import Fact, Facts
from safetune.core.playbook import (
    Guardrail,
    Inputs,
    Limits,
    ModelRef,
    Playbook,
    Promotion,
    Slices,
    Source,
    Sprint,
    Stage,
    Technique,
)
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine.models import BaseModel
from safetune.engine.sums import Sums
from safetune.engine.survey import survey

MODEL = BaseModel("m@1", "folder:1", Path("/m"), size=7)


ROW = (
    b'{"prompt": [{"role": "user", "content": "Two and two?"}], '
    b'"completion": [{"role": "assistant", "content": "Four."}]}\n'
)


def book(tmp_path: Path, judge: str = "refusal", trainer: str = "sft", rows: bytes = ROW) -> Playbook:
    (tmp_path / "rows.jsonl").write_bytes(rows)
    sha = hashlib.sha256(rows).hexdigest()
    source = Source("rows", str(tmp_path / "rows.jsonl"), sha, "MIT", "made", "here", ("train",))
    prompts = PromptSource("generator", "word-problems", "", {"seed": 1, "count": 5})
    suite = Suite("s", About("d", "MIT", "here"), prompts, Named(judge), (), Decoding(6))
    technique = Technique("kl_regularization", {}, (("rows", 1.0),))
    stage = Stage("t", trainer, (("rows", 1.0),), {}, None, (technique,), (), 0)
    sprint = Sprint("one", "o", (), (stage,))
    return Playbook(
        "b",
        "p",
        ("us",),
        ModelRef("folder", "/m"),
        Inputs((source,)),
        (suite,),
        (),
        (sprint,),
        (),
        Promotion("stable"),
        "d",
        "",
    )


def trained(seq: int, **figures: JSON) -> Event:
    return Event(seq, "", "", "", "trained", {"figures": figures})


def test_sound_parts_have_identities_and_no_problems(tmp_path: Path) -> None:
    facts = survey(book(tmp_path), MODEL, (), (tmp_path / "store", Sums(None)))
    assert (facts.model.name, facts.model.identity, facts.model.size) == ("m@1", "folder:1", 7)
    assert (facts.sources["rows"].size, facts.suites["s"].size) == (len(ROW), 5)
    assert set(facts.plugins) == {"trainer sft", "technique kl_regularization", "judge refusal"}
    found = [*facts.sources.values(), *facts.suites.values(), *facts.plugins.values()]
    assert all(fact.identity and not fact.problem for fact in found)
    assert facts.free_bytes > 0
    assert not (tmp_path / "store").exists()


def test_a_changed_and_a_missing_source_are_problems(tmp_path: Path) -> None:
    one = book(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(b"others")
    fact = survey(one, MODEL, (), (tmp_path, Sums(None))).sources["rows"]
    assert fact.identity == hashlib.sha256(b"others").hexdigest()
    assert "the playbook pins" in fact.problem
    (tmp_path / "rows.jsonl").unlink()
    assert "cannot be read: No such file" in survey(one, MODEL, (), (tmp_path, Sums(None))).sources["rows"].problem


@pytest.mark.parametrize(
    ("judge", "trainer", "part", "said"),
    [
        ("refusals", "sft", "judge refusals", 'did you mean "refusal"?'),
        ("refusal", "dpoo", "trainer dpoo", 'did you mean "dpo"?'),
        ("zzz", "sft", "judge zzz", "known: "),
    ],
)
def test_an_unknown_plugin_is_a_problem(tmp_path: Path, judge: str, trainer: str, part: str, said: str) -> None:
    facts = survey(book(tmp_path, judge, trainer), MODEL, (), (tmp_path, Sums(None)))
    assert said in facts.plugins[part].problem
    assert facts.plugins[part].identity == ""


def test_the_last_whole_training_of_a_shape_tells_what_a_step_takes(tmp_path: Path) -> None:
    events = (
        trained(3, shape="x", seconds=10.0, steps=5, bytes=100),
        trained(5, shape="x", seconds=12.0, steps=4, bytes=110, resumed_from=None),
        trained(7, shape="x", seconds=1.0, steps=4, bytes=120, resumed_from=2),  # only half of its steps
        trained(9, shape="y", seconds="fast", steps=4),
        trained(10, shape="z", seconds=1.0, steps=0),
        trained(11, seconds=1.0, steps=1),
        trained(11, shape="w", seconds=10**400, steps=10**400, bytes=10**400),
        trained(11, shape="v", seconds=True, steps=True, bytes=True),
        Event(12, "", "", "", "finished", {"figures": {"shape": "q", "seconds": 1.0, "steps": 1}}),
    )
    facts = survey(book(tmp_path), MODEL, events, (tmp_path, Sums(None)))
    assert facts.seconds_per_step == {"x": (3.0, "ledger line 5")}
    assert facts.bytes_per_checkpoint == {"x": 120}


def test_remembered_digests_are_those_of_the_file_as_it_is(tmp_path: Path) -> None:
    big, memory = tmp_path / "big", tmp_path / "work" / "sums.json"
    big.write_bytes(b"a" * 5_000_000)
    first = Sums(memory)
    before = first.of(big)
    first.save()
    assert memory.exists()
    assert Sums(memory).of(big) == before
    big.write_bytes(b"b" * 5_000_001)
    assert Sums(memory).of(big) == hashlib.sha256(b"b" * 5_000_001).hexdigest()
    for damaged in (b"", b"[]", b"{", b"null"):
        memory.write_bytes(damaged)
        assert Sums(memory).of(big) == hashlib.sha256(b"b" * 5_000_001).hexdigest()


def test_a_memory_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"a" * 5_000_000)
    (tmp_path / "work").write_text("")
    (tmp_path / "folder.json").mkdir()
    for memory in (tmp_path / "work" / "sums.json", tmp_path / "folder.json"):
        sums = Sums(memory)
        assert sums.of(tmp_path / "big") == hashlib.sha256(b"a" * 5_000_000).hexdigest()
        sums.save()
    assert (tmp_path / "work").read_text() == ""


def test_a_judge_without_controls_blocks_a_gate_at_plan_time(tmp_path: Path) -> None:
    facts = survey(book(tmp_path, judge="imported"), MODEL, (), (tmp_path / "store", Sums(None)))
    assert "no controls" in facts.plugins["judge imported"].problem


def gating(tmp_path: Path, slices: Slices, **suite: object) -> Facts:
    """Survey a playbook whose guardrail gates slices of the suite."""
    found = book(tmp_path, judge="numeric")
    guardrail = Guardrail("g", "s", "m", Limits(at_most=0.5), "why", slices=slices)
    suites = (replace(found.suites[0], **suite),)  # type: ignore[arg-type]
    changed = replace(found, suites=suites, guardrails=(guardrail,))
    return survey(changed, MODEL, (), (tmp_path / "store", Sums(None)))


def test_a_slice_that_no_prompt_belongs_to_is_a_problem_with_the_nearest_name(tmp_path: Path) -> None:
    known = gating(tmp_path, Slices()).suites["s"]
    assert known.problem == ""
    assert sum(n for n, _ in known.slices.values()) == known.size == 5
    some = next(iter(known.slices))
    for slices in (Slices((some,)), Slices((), (some,))):
        assert gating(tmp_path, slices).suites["s"].problem == ""
    for slices in (Slices((f"{some}s",)), Slices((some,), (f"{some}s",))):
        fact = gating(tmp_path, slices).suites["s"]
        says = f'suite s has no slice "{some}s", which guardrail g gates; did you mean "{some}"?'
        assert (fact.problem, fact.identity) == (says, known.identity)
    assert "; known: " in gating(tmp_path, Slices(("zzzzzzzz",))).suites["s"].problem


def test_slices_of_a_suite_without_any_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "one?"}\n{"prompt": "two?"}\n')
    sha = hashlib.sha256((tmp_path / "p.jsonl").read_bytes()).hexdigest()
    plain = PromptSource("bundled", str(tmp_path / "p.jsonl"), sha)
    fact = gating(tmp_path, Slices(), prompts=plain).suites["s"]
    assert fact.problem == "suite s has no slices, which guardrail g gates; known: none"


def test_the_problem_of_a_suite_itself_comes_first_and_another_tools_slices_are_not_known_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = PromptSource("bundled", str(tmp_path / "gone.jsonl"), "0" * 64)
    assert "no slice" not in gating(tmp_path, Slices(("x",)), prompts=gone).suites["s"].problem
    tool = PromptSource("engine", "inspect", options={"arguments": ["a"], "results": "b"})
    sound = Fact("s", "d")  # as of a tool that the operator allows
    monkeypatch.setattr("safetune.engine.survey.suite_fact", lambda suite, load_it: sound)
    assert gating(tmp_path, Slices(("x",)), prompts=tool).suites["s"] is sound
    assert "no slice" in gating(tmp_path, Slices(("x",))).suites["s"].problem


def test_what_is_known_of_the_judges_error_is_part_of_what_a_gate_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = (tmp_path / "store", Sums(None))
    exact = survey(book(tmp_path, judge="numeric"), MODEL, (), where).suites["s"]
    before = survey(book(tmp_path), MODEL, (), where).suites["s"]
    assert exact.calibration == {"kind": "definition"}
    assert before.calibration is not None
    assert before.calibration["own"] is False
    shipped = RefusalJudge().card()
    monkeypatch.setattr(RefusalJudge, "card", lambda _: shipped + b"\n")  # the same figures, of another file
    after = survey(book(tmp_path), MODEL, (), where).suites["s"]
    assert after.identity != before.identity
    assert survey(book(tmp_path, judge="tone"), MODEL, (), where).suites["s"].calibration is None


def guarded(tmp_path: Path, folder: Path) -> Playbook:
    found = book(tmp_path)
    judge = Named("llama-guard", {"model": str(folder)})
    return replace(found, suites=(replace(found.suites[0], judge=judge),))


def test_a_gate_rests_on_the_weights_of_the_model_that_its_judge_asks(tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    seen = []
    for weights in (b"one", b"two"):
        (folder / "model.safetensors").write_bytes(weights)
        playbook = guarded(tmp_path, folder)
        facts = survey(playbook, MODEL, (), (tmp_path / "store", Sums(None)))
        fact = facts.plugins[f"judge {playbook.suites[0].judge.key}"]
        assert fact.problem == ""
        seen.append(fact.identity)
    assert seen[0] != seen[1]


def test_a_judge_whose_model_is_not_there_is_a_problem_before_anything_is_trained(tmp_path: Path) -> None:
    playbook = guarded(tmp_path, tmp_path / "nothing")
    facts = survey(playbook, MODEL, (), (tmp_path / "store", Sums(None)))
    assert "config.json" in facts.plugins[f"judge {playbook.suites[0].judge.key}"].problem


def test_a_card_that_cannot_be_used_is_a_problem_before_anything_is_trained(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    for content, says in (("", "card.json cannot be used"), ("{}", "schema"), (None, "cannot be used")):
        if content is None:
            card.unlink()
        else:
            card.write_text(content)
        found = book(tmp_path)
        suite = replace(found.suites[0], judge=Named("refusal", {}, str(card)))
        facts = survey(replace(found, suites=(suite,)), MODEL, (), (tmp_path / "store", Sums(None)))
        assert says in facts.suites["s"].problem
