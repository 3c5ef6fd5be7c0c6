"""From files to evidence that is read back: CPU time of an item, in units of what it takes here to parse a row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from safetune.core.evidence import EvaluationReport
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.engine.asking import Workplace
from safetune.engine.evidence_files import read_evidence, write_evidence
from safetune.engine.measure import Answers, judge_suites, read_suites
from safetune.engine.prompts import load_once, suite_fact
from safetune.engine.recorded import Asked, read_recorded

ITEMS = 5_000
MOST = 13  # parsed rows an item; it takes about 6.5, and took 24 before this was made fast


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes at best, of three times."""
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def test_an_item_takes_little_more_than_what_must_be_done_with_it(tmp_path: Path) -> None:
    prompts, said = tmp_path / "prompts.jsonl", tmp_path / "said.jsonl"
    with prompts.open("w") as asked, said.open("w") as answered:
        for n in range(ITEMS):
            also = {"slice": f"topic {n % 20}", "cluster": f"group {n // 4}"}
            text = f"In which building is number {n} kept, if the list of the harbour is right?"
            asked.write(json.dumps({"id": f"item {n}", "prompt": text, "reference": f"house {n}", **also}) + "\n")
            answered.write(json.dumps({"suite": "s", "item_id": f"item {n}", "output": f"The House {n}."}) + "\n")
    columns = {"slice": "slice", "cluster": "cluster"}
    source = PromptSource("bundled", str(prompts), options={"columns": columns})
    metric = Metric("accuracy", ("correct",), "lower")
    suite = Suite("s", About("d", "MIT", "here"), source, Named("exact"), (metric,), Decoding(6))
    place = Workplace(tmp_path / "responses", tmp_path / "scratch", 1, lambda _: None)

    def once() -> EvaluationReport:
        load = load_once()
        assert not suite_fact(suite, load).problem
        measured = read_suites((suite,), gate=True, load_it=load)
        found = read_recorded(said, Asked(measured))
        judged = judge_suites(measured, Answers(found.responses), place)
        write_evidence(EvaluationReport("m", "", judged), tmp_path / "evidence")
        return read_evidence(tmp_path / "evidence")

    row = json.dumps({f"field {n}": f"what it holds {n}" for n in range(12)}).encode()
    unit = seconds(lambda: [json.loads(row) for _ in range(ITEMS)])
    taken = seconds(once)
    (suite_found,) = once().suites
    assert sum(item.label == "correct" for item in suite_found.candidate) == ITEMS
    assert taken / unit < MOST, f"an item takes as long as parsing {taken / unit:.1f} rows"
