"""Every shared part that ships with safetune loads, is pinned, and measures what its name says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.errors import IntegrityError, UsageError
from safetune.core.instrument import blind
from safetune.core.preview import power_of
from safetune.core.rows import COMPLETION, problem
from safetune.core.suite import Metric, Suite
from safetune.core.verdict import Verdict
from safetune.engine.prompts import DATA_ROOT_VARIABLE, load_prompts, suite_fact
from safetune.playbook.load import load
from safetune.playbook.shared import part_names, shipped_configs
from safetune.playbook.suites import load_suite
from safetune.plugins import load as plugin
from safetune.state.files import sha256_file

CONFIGS = shipped_configs()
SUITES = {path.stem: load_suite(path) for path in sorted((CONFIGS / "suites").glob("*.yaml"))}
PUBLIC = {name: suite for name, suite in SUITES.items() if suite.prompts.kind == "public"}
OWN = {name: suite for name, suite in SUITES.items() if suite.prompts.kind != "public"}

# How many prompts each suite has.
COUNTS = {
    "harmful-requests": 122, "safe-lookalikes": 122, "harmless": 80, "word-problems": 140, "word-problems-smoke": 56,
    "advbench": 520, "harmbench-val": 40, "jailbreakbench-jbc": 98, "jailbreakbench-pair": 79, "xstest-safe": 250,
    "xstest-unsafe": 200, "coconot-contrast": 911, "multijail-en": 314, "gsm8k-test": 1319, "inthewild-jailbreaks": 653,
}  # fmt: skip
HARMFUL = {"harmful-requests", "advbench", "harmbench-val", "jailbreakbench-jbc", "jailbreakbench-pair",
           "xstest-unsafe", "multijail-en", "inthewild-jailbreaks"}  # fmt: skip
SAFE = {"safe-lookalikes", "harmless", "xstest-safe", "coconot-contrast"}
SUMS = {"word-problems", "word-problems-smoke", "gsm8k-test"}


def metrics(suite: Suite) -> dict[str, tuple[set[str], str]]:
    """Return what each metric counts and which way is worse."""
    return {m.name: (set(m.counts), m.worse) for m in suite.metrics}


def test_the_shipped_suites_are_the_known_ones() -> None:
    assert set(SUITES) == set(COUNTS) == HARMFUL | SAFE | SUMS
    assert set(part_names("suites", CONFIGS)) == set(SUITES)


@pytest.mark.parametrize("name", sorted(HARMFUL))
def test_in_a_harmful_suite_whatever_is_no_clear_refusal_counts_as_harm(name: str) -> None:
    found = metrics(SUITES[name])
    assert found == {
        "attack_success_rate": ({"compliance", "incoherent"}, "higher"),
        "refusal_rate": ({"refusal"}, "lower"),
    }
    assert (SUITES[name].judge.name, SUITES[name].decoding.max_new_tokens) == ("refusal", 24)


@pytest.mark.parametrize("name", sorted(SAFE))
def test_in_a_safe_suite_refusing_is_worse_and_answering_is_better(name: str) -> None:
    assert metrics(SUITES[name]) == {"refusal_rate": ({"refusal"}, "higher"), "answer_rate": ({"compliance"}, "lower")}
    assert (SUITES[name].judge.name, SUITES[name].decoding.max_new_tokens) == ("refusal", 24)


@pytest.mark.parametrize("name", sorted(SUMS))
def test_in_a_sums_suite_fewer_correct_answers_are_worse(name: str) -> None:
    assert metrics(SUITES[name]) == {"accuracy": ({"correct"}, "lower")}
    assert SUITES[name].judge.name == "numeric"
    assert SUITES[name].decoding.max_new_tokens >= 40


@pytest.mark.parametrize("name", sorted(SUITES))
def test_metrics_count_labels_that_the_judge_gives(name: str) -> None:
    judge = plugin("judge", SUITES[name].judge.name, SUITES[name].judge.options)
    labels = {control.label for control in judge.controls}  # type: ignore[attr-defined]
    assert {label for metric in SUITES[name].metrics for label in metric.counts} <= labels


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_suite_of_our_own_loads_with_its_count_and_slices(name: str) -> None:
    prompts = load_prompts(OWN[name])
    assert len(prompts) == COUNTS[name]
    assert len({p.text for p in prompts}) == len(prompts)
    slices = Counter(p.slice for p in prompts)
    assert "" not in slices
    assert len(slices) >= 10
    assert min(slices.values()) >= 4
    assert all(p.reference for p in prompts) == (name in SUMS)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_suite_loads_from_the_data_root(name: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(data_root))
    prompts = load_prompts(PUBLIC[name])
    assert len(prompts) == COUNTS[name]
    assert all(p.text.strip() and p.text != "None" for p in prompts)
    assert all(p.reference for p in prompts) == (name in SUMS)
    texts = {p.text for p in prompts}
    clusters = {p.cluster or p.item_id for p in prompts}
    # Equal prompts must share a cluster, else they count as independent.
    assert len(clusters) <= len(texts)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_suite_is_pinned_and_says_where_it_comes_from(name: str) -> None:
    suite = PUBLIC[name]
    assert len(suite.prompts.sha256) == 64
    assert str(suite.prompts.options["source"]).startswith("https://github.com/")
    assert "arXiv:" in suite.about.origin
    assert suite.about.licence


def test_a_metric_that_counts_a_label_nobody_gives_keeps_the_suite_from_being_used() -> None:
    suite = OWN["harmful-requests"]
    assert suite_fact(suite).problem == ""
    wrong = replace(suite, metrics=(Metric("attack_success_rate", ("compliant",), "higher"),))
    found = suite_fact(wrong)
    assert found.identity == ""
    assert 'counts the label "compliant", which the judge refusal does not show in its controls' in found.problem


def test_a_public_suite_without_data_root_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_ROOT_VARIABLE, raising=False)
    with pytest.raises(UsageError) as raised:
        load_prompts(PUBLIC["advbench"])
    assert DATA_ROOT_VARIABLE in raised.value.message
    assert "LLMs-Finetuning-Safety" in raised.value.hint


def test_a_public_file_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path))
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    with pytest.raises(IntegrityError):
        load_prompts(PUBLIC["gsm8k-test"])


def test_bundled_prompts_are_the_pinned_ones() -> None:
    for suite in SUITES.values():
        if suite.prompts.kind == "bundled":
            assert sha256_file(Path(suite.prompts.location)) == suite.prompts.sha256, suite.name


def test_the_default_policy_has_a_rule_for_every_verdict_that_does_not_promote() -> None:
    playbook = load(CONFIGS / "starter.yaml")  # it extends policies/default
    rules = {verdict: (rule.to, rule.then) for rule in playbook.rollback for verdict in rule.on}
    assert rules == {
        Verdict.FAIL: ("last-promoted", "stop"),
        Verdict.ERROR: ("last-promoted", "stop"),
        Verdict.INCONCLUSIVE: ("last-promoted", "hold"),
    }
    assert playbook.channel == "stable"


def test_the_starter_is_a_playbook_whose_rows_can_be_trained_on() -> None:
    playbook = load(CONFIGS / "starter.yaml")
    assert playbook.sources
    for source in playbook.sources:
        assert sha256_file(Path(source.path)) == source.sha256
        rows = [json.loads(line) for line in Path(source.path).read_text(encoding="utf-8").splitlines()]
        assert len(rows) >= 10
        assert [problem(row, COMPLETION) for row in rows if problem(row, COMPLETION)] == []


def test_the_starter_has_no_limit_that_a_model_which_refuses_nothing_makes_blind() -> None:
    playbook = load(CONFIGS / "starter.yaml")
    worse = {(s.name, m.name): m.worse for s in playbook.suites for m in s.metrics}
    (stage,) = (stage for sprint in playbook.sprints for stage in sprint.stages)
    gate = playbook.gate_of(stage)
    assert all(g.severity == "block" for g in gate)
    # What a model without any refusal shows, where ordinary requests are answered.
    stock = {"attack_success_rate": 1.0, "refusal_rate": 0.0, "answer_rate": 1.0}
    for guardrail in gate:
        limits = {name: value for name, value in guardrail.limits.identity.items() if value is not None}
        for name, value in limits.items():
            direction = worse[guardrail.suite, guardrail.metric]
            assert blind(name, float(str(value)), stock[guardrail.metric], direction) == "", guardrail.name
        sizes = suite_fact(next(s for s in playbook.suites if s.name == guardrail.suite))
        assert {p.likely for p in power_of(guardrail, sizes.size, sizes.clusters)} == {"PASS"}
    assert playbook.sprints[0].success


def test_no_prompt_of_a_suite_is_in_the_rows_of_the_starter() -> None:
    prompts = {p.text for name in ("harmful-requests", "safe-lookalikes", "harmless") for p in load_prompts(OWN[name])}
    for path in (CONFIGS / "starter").glob("*.jsonl"):
        rows = [json.loads(line)["prompt"][0]["content"] for line in path.read_text(encoding="utf-8").splitlines()]
        assert not prompts & set(rows)
