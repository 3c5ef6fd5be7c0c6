"""Samples of lm-evaluation-harness: `samples_<task>_<date>.jsonl`, and `results_<date>.json` beside it (0.4.13).

The samples say nothing of the version and of how many documents were meant to be asked; the results file does, and
lm-eval writes it at the end. A row is one document under one filter, with one number for each metric.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetune.core.digest import sha256_hex
from safetune.core.errors import UsageError
from safetune.core.suite import Metric
from safetune.engine.importing.interface import (
    CORRECT,
    INCORRECT,
    NO,
    YES,
    Choice,
    Found,
    Reading,
    Source,
    choose,
    graded,
)
from safetune.engine.importing.strict import (
    cell,
    encodable,
    identifier,
    mapping,
    number,
    parse,
    read_bytes,
    release,
    rows,
    sequence,
    whole,
)

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
_FIXED = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
    | {"doc_hash", "prompt_hash", "target_hash"}
)
# Metrics that say how right an answer is; their 1 and 0 are `correct` and `incorrect`.
_ACCURACY = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em", "pass@1"})

_Row = tuple[str, Mapping[str, object]]


def read_lm_eval(path: Path, data: bytes, whose: tuple[str, str], choice: Choice) -> Reading:
    """Return what a samples file holds; `whose` is (suite, arm).

    Raises:
        UsageError: when a row cannot be used, the results file is missing, or a choice is missing.
    """
    found = list(rows(data, path.name))
    scorer = choose(choice.scorer, (name for where, row in found for name in _scorers(where, row)), path.name)
    metric, _, filtered = scorer.partition(",")
    chosen = [(where, row) for where, row in found if _filter(row) == filtered]
    version, expected, higher, notes = _told(path, metric, choice)
    labels = (CORRECT, INCORRECT) if metric in _ACCURACY else (YES, NO)
    return Reading(
        source=Source(path.name, "lm-eval", version, sha256_hex(data), *whose, scorer),
        found=tuple(_found(where, row, (metric, labels), choice) for where, row in chosen),
        expected=expected,
        metrics=(Metric(metric, (labels[0],), "lower" if higher else "higher"),),
        labels=labels,
        notes=notes,
    )


def results_file(path: Path) -> Path | None:
    """Return where lm-eval keeps the results that belong to a samples file, or None for a file with another name."""
    named = _NAME.fullmatch(path.name)
    return path.with_name(f"results_{named['date']}.json") if named else None


def _filter(row: Mapping[str, object]) -> str:
    """Return the name of the row's filter; the filter that does nothing has no name here."""
    name = row.get("filter")
    return name if isinstance(name, str) and name != "none" else ""


def _scorers(where: str, row: Mapping[str, object]) -> tuple[str, ...]:
    """Return `metric` or `metric,filter`, as lm-eval writes it in its table, for every metric of a row."""
    listed = [name for name in sequence(row, "metrics", where) if isinstance(name, str)]
    metrics = listed or [name for name in row if name not in _FIXED]
    suffix = f",{_filter(row)}" if _filter(row) else ""
    return tuple(f"{name}{suffix}" for name in metrics)


def _told(path: Path, metric: str, choice: Choice) -> tuple[str, int, bool, tuple[str, ...]]:
    """Return version, number of documents, whether more is better, and notes: what the results file says.

    Raises:
        UsageError: when there is no such file and nobody said how many documents there must be.
    """
    beside, named = results_file(path), _NAME.fullmatch(path.name)
    if beside is None or not beside.is_file():
        if choice.expected is None:
            what = beside.name if beside else "results_<date>.json (the samples file was renamed)"
            raise UsageError(
                f"{path.name}: {what} is not beside it, so nothing says that the run is complete",
                hint="put both files of the run into one folder, or say how many items are expected",
            )
        return "unknown", choice.expected, True, ("no results file: the version of lm-eval is unknown",)
    where, task = beside.name, str(named["task"]) if named else ""
    results = parse(read_bytes(beside), where)
    version = release(results.get("lm_eval_version"))
    counted = mapping(mapping(results, "n-samples", where), task, where)
    better = mapping(mapping(results, "higher_is_better", where), task, where).get(metric)
    notes = [f"lm-eval task {task}, model {results.get('model_name')}"]
    if not isinstance(better, bool):
        notes.append(f"lm-eval does not say whether more {metric} is better; it is taken as better")
    expected = whole(counted, "effective", f"{where}: n-samples of {task}")
    return version, expected, better is not False, tuple(notes)


def _found(where: str, row: Mapping[str, object], metric: tuple[str, tuple[str, str]], choice: Choice) -> Found:
    name, labels = metric
    doc = row.get("doc")
    columns = doc if isinstance(doc, dict) else {}
    output, problem = _output(where, row)
    score = number(row.get(name))
    label = ""
    if score is None:
        problem = f"its {name} is not a finite number" if name in row else f"it has no {name}"
    elif not problem:
        label, problem = graded(score, choice.pass_at, labels)
    return Found(
        item_id=identifier(row.get("doc_id"), where),
        sample=0,
        prompt=cell(columns, choice.prompt, where) or _prompt(where, row),
        output=output,
        slice=cell(columns, choice.slice, where),
        cluster=cell(columns, choice.cluster, where),
        score=score or 0.0,
        label=label,
        problem=problem,
    )


def _arguments(where: str, row: Mapping[str, object]) -> list[tuple[object, ...]]:
    """Return the arguments of every request of a document: an object of objects, or (older files) lists of lists."""
    value = row.get("arguments")
    if isinstance(value, dict):
        return [tuple(a.values()) for a in value.values() if isinstance(a, dict)]
    return [tuple(a) for a in sequence(row, "arguments", where) if isinstance(a, list)]


def _prompt(where: str, row: Mapping[str, object]) -> str:
    """Return the text that the model was given, chat template included."""
    requests = _arguments(where, row)
    first = requests[0][0] if requests and requests[0] else None
    if not isinstance(first, str):
        raise UsageError(f"{where}: `arguments` has no prompt", hint="run lm-eval with --log_samples")
    return encodable(first, where)


def _output(where: str, row: Mapping[str, object]) -> tuple[str, str]:
    """Return the answer and what is wrong with it: the generated text, or the choice with the highest likelihood."""
    responses = sequence(row, "resps", where)
    first = responses[0] if responses else None
    answer = first[0] if isinstance(first, list) and first else first
    if isinstance(answer, str):
        return encodable(answer, where), ""
    if not responses:
        return "", "it has no response"
    return _likeliest(where, row, responses)


def _likeliest(where: str, row: Mapping[str, object], responses: Sequence[object]) -> tuple[str, str]:
    likelihoods = [_likelihood(response) for response in responses]
    if None in likelihoods:
        return "", "a likelihood of it is not a finite number"
    known = [value for value in likelihoods if value is not None]
    requests = _arguments(where, row)
    if len(requests) != len(known):
        raise UsageError(f"{where}: {len(known)} responses to {len(requests)} requests")
    best = requests[known.index(max(known))]
    said = best[1] if len(best) > 1 else ""
    return (encodable(said, where), "") if isinstance(said, str) else ("", "its choices are not text")


def _likelihood(response: object) -> float | None:
    """Return the log-likelihood in a response, which lm-eval writes as `[["-3.5", "False"]]`, a text or a number."""
    value = response
    while isinstance(value, list) and value:
        value = value[0]
    try:
        return number(float(value)) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None
