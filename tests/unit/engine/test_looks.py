"""Looks: generation stops once a gate is decided, at the same items whoever answered first or was killed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lookslab
import pytest
from lookslab import RATES, Answering

from safetune.core.alpha import Terms
from safetune.core.errors import RunError
from safetune.core.evidence import EvaluationReport, Prompt, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.sampling import cluster_key, in_order
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.core.verdict import Verdict
from safetune.engine import asking
from safetune.engine.asking import Subject, Workplace, endpoint_subject, forget_remote
from safetune.engine.looks import Stopping, first_parts, measure_gate
from safetune.engine.measure import Arms, Measured
from safetune.engine.responses import Responses, request
from safetune.plugins import load
from safetune.protocols import Progress

METRIC = Metric("accuracy", ("correct",), "lower")


class Laboratory:
    """A place to measure at, with that model behind every launcher."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        self.said: list[str] = []
        self.launcher = Answering(1, 0, 0)
        self.answering()

    def answering(self, chunk: int = 8, pause: float = 0.01, lives: int = -1) -> None:
        launcher = self.launcher = Answering(chunk, pause, lives)
        self._patch.setattr(asking, "load", lambda kind, name: launcher if kind == "launcher" else load(kind, name))

    def place(self, name: str = "one", workers: int = 1) -> Workplace:
        return Workplace(self.folder / name / "responses", self.folder / name / "scratch", workers, self._listen)

    def _listen(self, progress: Progress) -> None:
        if progress.kind == "note":
            self.said.append(str(progress.fields["text"]))

    def responses(self, label: str, name: str = "one") -> int:
        return len(Responses(self.place(name).responses, label).read())


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    return Laboratory(tmp_path, monkeypatch)


def subject(label: str) -> Subject:
    return Subject(label, label, {"base": "/m"})


def suite(name: str = "sums", number: int = 400, size: int = 1) -> Measured:
    """Return a suite of its own prompts; `size` of them are a cluster."""
    about, source = About("d", "MIT", "here"), PromptSource("bundled", f"/{name}")
    made = Suite(name, about, source, Named("numeric"), (METRIC,), Decoding(6))
    prompts = (Prompt(f"p{n}", f"{name} {n}", "", f"c{n // size}" if size > 1 else "", "1") for n in range(number))
    return Measured(made, tuple(prompts))


def floor(over: str = "sums", *, at: float = 0.8, name: str = "", sequential: bool = True, **more: Any) -> Guardrail:
    return Guardrail(name or over, over, METRIC.name, Limits(at_least=at), "why", sequential=sequential, **more)


def order_of(measured: Measured) -> list[str]:
    """Return the ids of prompts in the order in which they may be asked."""
    place = {key: n for n, key in enumerate(in_order(map(cluster_key, measured.prompts)))}
    return [p.item_id for p in sorted(measured.prompts, key=lambda p: place[cluster_key(p)])]


def ids(suite: SuiteEvidence) -> list[str]:
    return [item.item_id for item in suite.candidate]


def arms(label: str) -> Arms:
    return Arms(subject(label), subject("before"))


def one(report: EvaluationReport) -> SuiteEvidence:
    (suite,) = report.suites
    return suite


@pytest.mark.parametrize(("label", "verdict"), [("good", Verdict.PASS), ("bad", Verdict.FAIL)])
def test_what_is_plain_is_decided_on_a_part_of_the_prompts(lab: Laboratory, label: str, verdict: Verdict) -> None:
    lab.answering(pause=0.05)
    measured, gate = suite(), (floor(),)
    report = measure_gate(arms(label), (measured,), lab.place(), Stopping(gate))
    found = one(report)
    asked = len(found.candidate)
    assert 30 <= asked < 200
    assert asked == found.expected == len(found.baseline)
    assert ids(found) == order_of(measured)[:asked]
    assert [item.item_id for item in found.baseline] == ids(found)
    assert found.told["sequential"] == {"planned": 400, "largest": 1, "slices": []}
    assert decide(gate, report).verdict is verdict
    # The worker was told: what it had begun is all that was asked in vain.
    assert asked <= lab.responses(label) < 400
    assert lab.said[0].startswith("look 1 of 20: sums ")
    assert lab.said[-2].endswith(f"sums {verdict}")
    assert lab.said[-1] == f"sums: {asked} of 400 prompts were asked, no more are needed"


def test_a_slice_that_comes_late_is_waited_for(lab: Laboratory) -> None:
    """Every answer is right but those of twelve rare prompts, which come last."""
    measured = suite()
    last = set(order_of(measured)[-12:])
    prompts = (replace(p, slice="rare" if p.item_id in last else "common") for p in measured.prompts)
    rare = Measured(measured.suite, tuple(replace(p, reference="2") if p.slice == "rare" else p for p in prompts))
    gate = (floor(slices=Slices(min_samples=5)),)
    report = measure_gate(arms("good"), (rare,), lab.place(), Stopping(gate))
    assert len(one(report).candidate) > 388
    assert decide(gate, report).verdict is Verdict.FAIL


def test_what_is_not_decided_is_asked_to_the_end(lab: Laboratory) -> None:
    gate = (floor(at=0.82),)
    report = measure_gate(arms("fair"), (suite(number=150),), lab.place(), Stopping(gate))
    assert len(one(report).candidate) == one(report).expected == 150
    assert decide(gate, report).verdict is Verdict.INCONCLUSIVE
    assert lab.said == [f"look {n + 1} of 9: sums undecided (n={min(30 + 16 * n, 150)})" for n in range(9)]


def test_a_test_for_a_fixed_number_has_all_its_items(lab: Laboratory) -> None:
    gate = (floor("sums"), floor("more", sequential=False), floor("both"), floor("both", name="b", sequential=False))
    measured = (suite("more", 60), suite("sums"), suite("both", 60))
    report = measure_gate(arms("good"), measured, lab.place(), Stopping(gate))
    assert [s.suite for s in report.suites] == ["more", "sums", "both"]
    more, sums, both = report.suites
    assert len(more.candidate) == len(both.candidate) == 60
    assert len(sums.candidate) < 200
    assert "sequential" not in {**more.told, **both.told}
    assert decide(gate, report).verdict is Verdict.PASS


def test_undecided_suites_are_asked_on_and_decided_ones_are_not(lab: Laboratory) -> None:
    gate = (floor("plain", at=0.5), floor("close", at=0.82))
    report = measure_gate(arms("fair"), (suite("close", 200), suite("plain", 200)), lab.place(), Stopping(gate))
    close, plain = report.suites
    assert len(close.candidate) == 200
    assert len(plain.candidate) < 100


def test_after_a_fail_nothing_more_is_asked_of_any_suite(lab: Laboratory) -> None:
    gate = (floor("plain", at=0.95), floor("close", at=0.82))
    report = measure_gate(arms("fair"), (suite("close"), suite("plain")), lab.place(), Stopping(gate))
    close, plain = report.suites
    assert len(close.candidate) == len(plain.candidate) < 200
    verdicts = {r.guardrail: r.verdict for r in decide(gate, report).results}
    assert verdicts == {"plain": Verdict.FAIL, "close": Verdict.INCONCLUSIVE}


def test_a_fixed_suite_that_fails_ends_the_others_after_their_first_look(lab: Laboratory) -> None:
    gate = (floor("fixed", at=0.9, sequential=False), floor("close", at=0.82))
    report = measure_gate(arms("bad"), (suite("close"), suite("fixed", 100)), lab.place(), Stopping(gate))
    assert [len(s.candidate) for s in report.suites] == [30, 100]
    assert decide(gate, report).verdict is Verdict.FAIL


def test_clusters_are_never_cut(lab: Laboratory) -> None:
    measured = suite(number=420, size=7)
    found = one(measure_gate(arms("good"), (measured,), lab.place(), Stopping((floor(),))))
    assert found.told["sequential"] == {"planned": 420, "largest": 7, "slices": []}
    assert len(found.candidate) % 7 == 0
    assert len(found.candidate) < 420
    assert ids(found) == order_of(measured)[: len(found.candidate)]


def test_a_stricter_gate_needs_more_items(lab: Laboratory) -> None:
    first = one(measure_gate(arms("good"), (suite(),), lab.place(), Stopping((floor(),))))
    again = one(measure_gate(arms("good"), (suite(),), lab.place(), Stopping((floor(),), Terms(attempt=9))))
    assert len(again.candidate) > len(first.candidate)


# -- the same evidence whatever happens --------------------------------------------------------------------------------

TWO = (suite("plain"), suite("close"), suite("fixed", 70))
GATE = (floor("plain", at=0.9), floor("close", at=0.87), floor("fixed", at=0.5, sequential=False))


def measured_at(lab: Laboratory, name: str, workers: int = 1) -> EvaluationReport:
    return measure_gate(arms("good"), TWO, lab.place(name, workers), Stopping(GATE))


@pytest.fixture
def undisturbed(lab: Laboratory) -> EvaluationReport:
    report = measured_at(lab, "undisturbed")
    plain, close, fixed = report.suites
    assert len(fixed.candidate) == 70
    assert 30 < len(plain.candidate) < len(close.candidate) < 400
    return report


def test_batches_and_workers_change_nothing(lab: Laboratory, undisturbed: EvaluationReport) -> None:
    lab.answering(chunk=50, pause=0.0)
    assert measured_at(lab, "large batches") == undisturbed
    lab.answering(chunk=3, pause=0.001)
    assert measured_at(lab, "two workers", workers=2) == undisturbed


@pytest.mark.parametrize("share", [100, 37])
def test_responses_that_are_there_already_change_nothing(
    lab: Laboratory, undisturbed: EvaluationReport, share: int
) -> None:
    place = lab.place("again")
    for who in ("good", "before"):
        rows = []
        for measured in TWO:
            for prompt in measured.prompts:
                if zlib.crc32(f"{who}{prompt.item_id}".encode()) % 100 < share:
                    right = zlib.crc32(prompt.text.encode()) % 100 < RATES[who]
                    row = {"digest": request(prompt, measured.suite).digest, "output": "1" if right else "0"}
                    rows.append(json.dumps(row) + "\n")
        Responses(place.responses, who).file(7).write_text("".join(reversed(rows)))
    assert measured_at(lab, "again") == undisturbed


@pytest.mark.parametrize("lives", [1, 11, 20])
def test_a_killed_evaluation_goes_on_to_the_same_evidence(
    lab: Laboratory, undisturbed: EvaluationReport, lives: int
) -> None:
    lab.answering(lives=lives)
    with pytest.raises(RunError, match="exit code 9"):
        measured_at(lab, "killed")
    said = lab.responses("good", "killed") + lab.responses("before", "killed")
    assert 0 < said <= 8 * lives
    (lab.place("killed").scratch / "stopped.json").write_text('["close", "plain"]')  # of an attempt with other terms
    lab.answering()
    assert measured_at(lab, "killed") == undisturbed
    assert lab.launcher.starts == 1


def test_a_worker_that_leaves_out_what_is_wanted_ends_the_run(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookslab, "WORKER", lookslab.WORKER.replace("rows[:chunk]", "rows[:1]"))
    with pytest.raises(RunError, match="responses are missing"):
        measured_at(lab, "lazy")


# -- where a worker cannot simply go on --------------------------------------------------------------------------------


@pytest.fixture
def asked(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return what gives the requests that the endpoint of a model answered; what is forgotten in the end is noted."""
    lines: list[tuple[str, str]] = []

    def forget(subjects: Sequence[Subject], place: Workplace) -> None:
        for subject in subjects:
            folder = Responses(place.responses, subject.identity).folder if subject.remote else Path("/nowhere")
            for path in folder.glob("*.jsonl"):
                rows = path.read_text().splitlines()
                lines.extend((str(subject.weights["model"]), json.loads(row)["digest"]) for row in rows)
        forget_remote(subjects, place)

    for module in ("looks", "respondents"):
        monkeypatch.setattr(f"safetune.engine.{module}.forget_remote", forget)
    return lambda model: [digest for name, digest in lines if name == model]


def test_an_endpoint_is_asked_look_by_look_and_nothing_in_vain(lab: Laboratory, asked: Any) -> None:
    remote = endpoint_subject("http://127.0.0.1:9/v1", "good")
    found = one(measure_gate(Arms(remote), (suite(),), lab.place(), Stopping((floor(),))))
    assert len(found.candidate) in (30, 60, 120)
    assert len(asked("good")) == len(set(asked("good"))) == len(found.candidate)
    assert not list(lab.place().responses.rglob("*.jsonl"))


CONTROLS = [{"prompt": "p", "response": str(n), "label": ("wrong", "right")[n]} for n in (0, 1)]


def test_a_judge_that_asks_a_model_is_asked_once_about_each_response_of_a_look(lab: Laboratory, asked: Any) -> None:
    options: dict[str, Any] = {"url": "http://127.0.0.1:9/v1", "model": "judge", "labels": ["right", "wrong"]}
    judge = Named("endpoint", {**options, "rubric": "1 is right", "controls": CONTROLS})
    metric = replace(METRIC, counts=("right",))
    measured = Measured(replace(suite().suite, judge=judge, metrics=(metric,)), suite().prompts)
    found = one(measure_gate(arms("good"), (measured,), lab.place(), Stopping((floor(severity="warn"),))))
    assert len(found.candidate) in (30, 60, 120)
    assert {item.label for item in found.candidate} == {"right", "wrong"}
    assert lab.responses("good") == len(found.candidate)
    pairs = {(item.item_id, item.output) for item in (*found.candidate, *found.baseline)}
    assert len(asked("judge")) == len(set(asked("judge"))) == len(pairs) + len(CONTROLS)


def test_perplexity_is_measured_look_by_look(lab: Laboratory) -> None:
    measured = Measured(replace(suite().suite, max_perplexity=100.0), suite().prompts)
    base = replace(arms("good"), base=subject("base"))
    found = one(measure_gate(base, (measured,), lab.place(), Stopping((floor(),))))
    assert len(found.candidate) in (30, 60, 120)
    assert {item.output: item.label for item in found.candidate} == {"1": "correct", "0": "incoherent"}


def test_a_suite_that_needs_a_model_to_judge_it_and_every_item_is_measured_first(lab: Laboratory) -> None:
    limited = suite("fixed", 40)
    measured = (suite(), Measured(replace(limited.suite, max_perplexity=100.0), limited.prompts))
    gate = (floor(at=0.97), floor("fixed", at=0.9, sequential=False))
    report = measure_gate(replace(arms("bad"), base=subject("base")), measured, lab.place(), Stopping(gate))
    assert [len(s.candidate) for s in report.suites] == [30, 40]


def test_every_worker_is_given_a_like_share_of_each_round(lab: Laboratory) -> None:
    wanted = [request(prompt, suite().suite) for prompt in suite(number=40).prompts]
    numbers = {r.digest: n % 4 for n, r in enumerate(wanted)}
    parts = {r.digest: ["sums"] for n, r in enumerate(wanted) if n % 4}
    rounds = asking.Rounds(lab.folder / "stopped.json", numbers, parts)
    jobs = asking.asking_jobs([(subject("good"), wanted)], replace(lab.place(workers=2), rounds=rounds))
    assert len(jobs) == 2
    for job, _, _ in jobs:
        content = json.loads((job.folder / "job.json").read_bytes())
        rows = [json.loads(line) for line in Path(content["subjects"][0]["requests"]).read_bytes().splitlines()]
        assert content["stopped"] == str(rounds.stopped)
        assert [row.get("round", 0) for row in rows] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
        assert all(row.get("parts", []) == (["sums"] if row.get("round", 0) else []) for row in rows)
    (job, _, _) = asking.asking_jobs([(subject("good"), wanted)], lab.place())[0]
    assert "stopped" not in json.loads((job.folder / "job.json").read_bytes())


def test_beside_training_only_what_is_asked_in_any_case_is_made() -> None:
    gate = (floor("sums"), floor("more", sequential=False))
    measured = (suite("sums", size=7), suite("more", 60))
    sums, more = first_parts((subject("before"),), measured, gate)
    assert more == measured[1]
    assert [p.item_id for p in sums.prompts] == order_of(measured[0])[:35]


def test_a_gate_without_sequential_guardrails_asks_everything_at_once(lab: Laboratory) -> None:
    report = measure_gate(arms("bad"), (suite(number=50),), lab.place(), Stopping((floor(sequential=False),)))
    assert len(one(report).candidate) == 50
    assert one(report).told.get("sequential") is None
    assert lab.said == []
