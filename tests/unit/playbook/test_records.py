"""A playbook without mistakes becomes exactly the records that it says, and its digest is of what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safetune.core.playbook import (
    Adapter,
    Guardrail,
    Launch,
    Limits,
    ModelRef,
    RollbackRule,
    Slices,
    Source,
    Sprint,
    Stage,
    Technique,
)
from safetune.core.suite import Metric, Named
from safetune.core.verdict import Verdict
from safetune.playbook.load import load, load_marked

Write = Callable[[Mapping[str, str]], Path]

SHA = "0" * 63 + "a"
WORSE = Limits(worse_by_at_most=0.1)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_every_part_arrives_in_the_records(example: str, write: Write, folder: Path) -> None:
    playbook = load(write({"playbook.yaml": example}))
    rows = str(folder / "rows.jsonl")
    assert (playbook.name, playbook.purpose) == ("tutor", "Teach arithmetic and keep the refusals.")
    assert playbook.owners == ("team-a", "team-b")
    assert playbook.model == ModelRef("embedded", "smollm2-135m-instruct", "", "smollm2-135m-instruct")
    assert playbook.sources == (
        Source("rows", rows, SHA, "MIT", "public-release", "written here", ("train",)),
        Source("held", rows, SHA, "MIT", "none", "here", ("evaluate",)),
    )
    assert [suite.name for suite in playbook.suites] == ["harmless", "arithmetic"]
    assert playbook.guardrails == (
        Guardrail("skill", "arithmetic", "accuracy", Limits(at_least=0.25), "the aim", "block", 0.95, 30),
        Guardrail(
            "answers",
            "harmless",
            "refusal_rate",
            Limits(worse_by_at_most=0.1),
            "a refuser helps nobody",
            "warn",
            0.9,
            40,
        ),
    )
    stage = Stage(
        name="sft",
        trainer="sft",
        sources=(("rows", 0.5),),
        train={"max_steps": 10, "learning_rate": 0.0003, "packing": False},
        adapter=Adapter(rank=8),
        techniques=(Technique("kl_regularization", {"weight": 1.0}, (("rows", 1.0),)),),
        gate=("skill", "answers"),
        seed=7,
        launch=Launch(2, str(folder / "launch.yaml"), 1),
    )
    assert playbook.sprints == (Sprint("one", "better sums", ("skill",), (stage,)),)
    assert playbook.rollback == (
        RollbackRule((Verdict.FAIL, Verdict.ERROR), "sprint-start", "stop"),
        RollbackRule((Verdict.INCONCLUSIVE,), "last-promoted", "hold"),
    )
    assert playbook.channel == "stable"
    assert playbook.path == str(folder / "playbook.yaml")


@pytest.mark.parametrize(
    ("written", "slices"),
    [
        ("every", Slices()),
        ("[de, 'nl, be']", Slices(("de", "nl, be"))),
        ("{critical: [de]}", Slices((), ("de",), 30)),
        ("{only: [de, nl], critical: [nl], min_samples: 50.0}", Slices(("de", "nl"), ("nl",), 50)),
    ],
)
def test_every_form_of_slices_arrives(written: str, slices: Slices, example: str, write: Write) -> None:
    text = example.replace("at_least: 0.25", f"slices: {written}, sequential: true, severity: observe, at_least: 0.25")
    text = text.replace("severity: warn", "severity: block")
    found = load(write({"playbook.yaml": text})).guardrails[0]
    assert (found.slices, found.sequential, found.severity) == (slices, True, "observe")
    assert found.slices is not None
    assert type(found.slices.min_samples) is int


def test_without_them_a_guardrail_has_no_slices_and_is_not_sequential(example: str, write: Write) -> None:
    before = load(write({"playbook.yaml": example}))
    assert [(g.slices, g.sequential) for g in before.guardrails] == [(None, False)] * 2
    assert before.promotion.alpha_budget is None
    same = load(write({"playbook.yaml": example.replace("at_least: 0.25", "sequential: false, at_least: 0.25")}))
    assert same.digest == before.digest


@pytest.mark.parametrize(
    ("said", "least"),
    [("", 200), ("sequential: true, ", 30), ("sequential: false, ", 200), ("sequential: true, min_samples: 77, ", 77)],
)
def test_a_guardrail_takes_the_least_of_its_suite_unless_it_may_stop_early(
    said: str, least: int, example: str, write: Write
) -> None:
    text = example.replace("origin: generated", "origin: generated\n    min_samples: 200")
    found = load(write({"playbook.yaml": text.replace("at_least: 0.25", f"{said}at_least: 0.25")}))
    assert (found.guardrails[0].min_samples, found.suites[1].about.min_samples) == (least, 200)


def test_a_metric_of_scores_counts_no_label(example: str, write: Write) -> None:
    text = example.replace("counts: [correct]", "of: score")
    assert load(write({"playbook.yaml": text})).suites[1].metrics == (Metric("accuracy", (), "lower", "score"),)


def test_the_alpha_budget_arrives_and_is_part_of_the_digest(example: str, write: Write) -> None:
    digests = {load(write({"playbook.yaml": example})).digest}
    for budget in (0.1, 0.2):
        text = example.replace("channel: stable", f"channel: stable, alpha_budget: {budget}")
        playbook = load(write({"playbook.yaml": text}))
        assert playbook.promotion.alpha_budget == budget
        digests.add(playbook.digest)
    assert len(digests) == 3


def test_an_inline_suite_arrives_whole(example: str, write: Write) -> None:
    suite = load(write({"playbook.yaml": example})).suites[1]
    assert (suite.prompts.kind, suite.prompts.location) == ("generator", "word-problems")
    assert suite.prompts.options == {"seed": 1, "count": 40}
    assert suite.metrics == (Metric("accuracy", ("correct",), "lower"),)
    assert (suite.judge, suite.decoding.max_new_tokens, suite.decoding.system_prompt) == (Named("numeric"), 40, "")


def test_a_seed_written_as_1_point_0_is_the_whole_number_that_a_generator_takes(example: str, write: Write) -> None:
    text = example.replace("seed: 1, count: 40", "seed: 1.0, count: 40.0")
    options = load(write({"playbook.yaml": text})).suites[1].prompts.options
    assert [(type(options[name]), options[name]) for name in ("seed", "count")] == [(int, 1), (int, 40)]


def test_a_prompt_file_keeps_its_reader_options_and_its_digest(example: str, write: Write, folder: Path) -> None:
    prompts = (
        f"prompts: {{file: rows.jsonl, sha256: {SHA}, format: csv, header: false, columns: {{prompt: '0', id: ''}},"
        " where: {a_not: ''}}"
    )
    path = write({"playbook.yaml": example.replace("prompts: {generator: word-problems, seed: 1, count: 40}", prompts)})
    found = load(path).suites[1].prompts
    assert (found.kind, found.location, found.sha256) == ("bundled", str(folder / "rows.jsonl"), SHA)
    assert found.options == {
        "format": "csv", "header": False, "columns": {"prompt": "0", "id": ""}, "where": {"a_not": ""},
    }  # fmt: skip


def test_without_an_adapter_all_weights_are_trained_and_defaults_are_those_of_the_records(
    example: str, write: Write
) -> None:
    text = example
    for line in ("adapter: {kind", "train: {max", "seed: 7", "launch:", "techniques:", "- kl_reg"):
        text = "".join(row for row in text.splitlines(keepends=True) if line not in row)
    stage = load(write({"playbook.yaml": text})).sprints[0].stages[0]
    assert (stage.adapter, stage.train, stage.seed, stage.launch, stage.techniques) == (None, {}, 0, Launch(), ())


@pytest.mark.parametrize(
    ("written", "kind", "location", "revision"),
    [
        ("base: smollm2-135m-instruct", "embedded", "smollm2-135m-instruct", ""),
        ("base: ./mine", "folder", "{}/mine", ""),
        ("base: mine", "folder", "{}/mine", ""),
        ("base: '{}/mine'", "folder", "{}/mine", ""),
        ("base: ~/mine", "folder", "{}/mine", ""),
        ("base: mine/tiny.gguf", "gguf", "{}/mine/tiny.gguf", ""),
        ("base: org/some.model-1", "hub", "org/some.model-1", COMMIT),
    ],
)
def test_each_kind_of_model(
    written: str, kind: str, location: str, revision: str, example: str, write: Write, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(folder))
    (folder / "mine").mkdir()
    (folder / "mine" / "tiny.gguf").touch()
    written = written.replace("{}", str(folder)) + (f", revision: {revision}" if revision else "")
    model = load(write({"playbook.yaml": example.replace("base: smollm2-135m-instruct", written)})).model
    assert (model.kind, model.location, model.revision) == (kind, location.replace("{}", str(folder)), revision)


def test_where_names_the_line_of_every_part(example: str, write: Write) -> None:
    path = write({"playbook.yaml": example})
    lines = {name: int(where.removeprefix(f"{path}:")) for name, where in load_marked(path).where.items()}
    assert lines == {
        "model": 5, "source rows": 7, "source held": 14, "suite harmless": 16, "suite arithmetic": 17,
        "guardrail skill": 27, "guardrail answers": 28, "sprint one": 37, "stage one/sft": 41, "rollback": 51,
        "promotion": 54,
    }  # fmt: skip


def test_the_digest_does_not_depend_on_where_the_files_lie(example: str, write: Write, folder: Path) -> None:
    before = load(write({"playbook.yaml": example})).digest
    away = folder / "far" / "away"
    away.mkdir(parents=True)
    for name in ("playbook.yaml", "launch.yaml", "rows.jsonl"):
        shutil.copy(folder / name, away / name)
    assert load(away / "playbook.yaml").digest == before
    moved = example.replace("rows.jsonl", "far/away/rows.jsonl").replace("launch.yaml", "far/away/launch.yaml")
    assert load(write({"other.yaml": moved})).digest == before


def test_the_digest_does_not_depend_on_where_a_local_model_lies(example: str, write: Write, folder: Path) -> None:
    digests = set()
    for name in ("here", "there"):
        (folder / name).mkdir()
        text = example.replace("base: smollm2-135m-instruct", f"base: ./{name}")
        digests.add(load(write({"playbook.yaml": text})).digest)
    assert len(digests) == 1


def test_the_digest_does_not_depend_on_how_the_same_thing_is_written(example: str, write: Write, folder: Path) -> None:
    before = load(write({"playbook.yaml": example})).digest
    again = (
        example.replace("3e-4", "0.0003").replace("use: train", "use: [train]").replace("seed: 7", "seed: 7.0 # same")
    )
    again = again.replace("owners: [team-a, team-b]", "owners:\n  - team-a\n  - 'team-b'").replace(
        "rank: 8", "alpha: 32, rank: 8"
    )
    assert load(write({"again.yaml": again})).digest == before
    write({"child.yaml": "schema: safetune/1\nextends: playbook.yaml\n"})
    assert load(folder / "child.yaml").digest == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: tutor", "name: tutor2"), ("Teach", "Learn"), ("team-b", "team-c"), ("b]\nmodel", "b, c]\nmodel"),
        (f"{SHA}\n", "1" * 64 + "\n"), ("licence: MIT\n    consent", "licence: CC0-1.0\n    consent"),
        ("consent: none", "consent: some"), ("origin: here", "origin: there"), ("use: evaluate", "use: train"),
        ("count: 40", "count: 41"), ("max_new_tokens: 40", "max_new_tokens: 41"), ("worse: lower", "worse: higher"),
        ("at_least: 0.25, why", "at_least: 0.26, why"), ("the aim", "an aim"), ("severity: warn", "severity: block"),
        ("confidence: 0.9", "confidence: 0.99"), ("min_samples: 40", "min_samples: 41"), ("better sums", "best sums"),
        ("    success: [skill]\n", ""), ("{rows: 0.5}", "{rows: 0.6}"), ("3e-4", "4e-4"), ("rank: 8", "rank: 9"),
        ("weight: 1.0", "weight: 2.0"), ("{rows: 1}", "{rows: 2}"), ("seed: 7", "seed: 8"),
        ("num_processes: 2", "num_processes: 3"), ("then: hold", "then: stop"), ("channel: stable", "channel: canary"),
        ("at_least: 0.25", "slices: every, at_least: 0.25"), ("at_least: 0.25", "slices: [a], at_least: 0.25"),
        ("at_least: 0.25", "sequential: true, at_least: 0.25"), ("counts: [correct]", "of: score"),
        ("channel: stable", "channel: stable, alpha_budget: 0.3"),
        ("base: smollm2-135m-instruct", f"base: a/b, revision: {COMMIT}"), ("to: sprint-start, ", ""),
    ],
)  # fmt: skip
def test_the_digest_depends_on_everything_that_is_said(old: str, new: str, example: str, write: Write) -> None:
    before = load(write({"playbook.yaml": example})).digest
    assert old in example
    changed = example.replace(old, new, 1)
    if old == "worse: lower":  # a limit on the other side is an error of its own
        changed = changed.replace("at_least: 0.25", "at_most: 0.25")
    assert load(write({"playbook.yaml": changed})).digest != before


def test_the_digest_depends_on_the_bytes_of_a_launch_configuration(example: str, write: Write) -> None:
    path = write({"playbook.yaml": example})
    before = load(path).digest
    write({"launch.yaml": "num_machines: 2\n"})
    assert load(path).digest != before


def test_the_digest_depends_on_what_a_shared_suite_measures(example: str, write: Write, folder: Path) -> None:
    from safetune.playbook.shared import shipped_configs

    path = write({"playbook.yaml": example})
    before = load(path).digest
    shared = (shipped_configs() / "suites" / "harmless.yaml").read_text(encoding="utf-8")
    prompts = folder / "configs" / "suites" / "prompts"
    prompts.mkdir(parents=True)
    shutil.copy(shipped_configs() / "suites" / "prompts" / "harmless.jsonl", prompts)
    write({"configs/suites/harmless.yaml": shared})
    assert load(path).digest == before
    write({"configs/suites/harmless.yaml": shared.replace("max_new_tokens: 24", "max_new_tokens: 25")})
    assert load(path).digest != before


def test_loading_costs_little(example: str, write: Write) -> None:
    import time

    path = write({"playbook.yaml": example})
    load(path)
    start = time.process_time()
    for _ in range(10):
        load(path)
    assert (time.process_time() - start) / 10 < 0.05
