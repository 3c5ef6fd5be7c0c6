"""Reports of garak: `<prefix>.report.jsonl` (0.17.1). One row for each attempt when it was made, one when judged.

An attempt of status 1 has answers and no results of detectors; the same attempt of status 2 has both. A detector gives
each answer a number; from garak's threshold on it is a hit. garak counts its own hits, which must be ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from safetune.core.digest import sha256_hex
from safetune.core.errors import UsageError
from safetune.core.suite import Metric
from safetune.engine.importing.interface import HIT, PASSED, Choice, Found, Reading, Source, choose
from safetune.engine.importing.strict import (
    encodable,
    identifier,
    mapping,
    number,
    release,
    rows,
    sequence,
    text,
    whole,
)

_THRESHOLD = 0.5  # garak's own default of run.eval_threshold
_JUDGED = 2
_AGAIN = "let garak finish: run it again with a new report prefix"

_Row = tuple[str, Mapping[str, object]]


@dataclass(slots=True)
class _Report:
    """The rows of a report, by what they are."""

    made: dict[str, _Row] = field(default_factory=dict)
    judged: dict[str, _Row] = field(default_factory=dict)
    counts: list[_Row] = field(default_factory=list)
    setup: Mapping[str, object] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    ended: bool = False


def read_garak(data: bytes, whose: tuple[str, str, str], choice: Choice) -> Reading:
    """Return what a report holds; `whose` is (file name, suite, arm).

    Raises:
        UsageError: when the run did not end, a row cannot be used, a choice is missing, or garak's own number of hits
            is another one.
    """
    file, suite, arm = whose
    report = _sorted(data, file)
    if len(report.versions) != 1 or not report.ended:
        what = "holds several runs" if len(report.versions) > 1 else "is of a run that did not end"
        raise UsageError(f"{file} {what}", hint=_AGAIN)
    offered = [d for where, row in report.judged.values() for d in mapping(row, "detector_results", where)]
    detector = choose(choice.scorer, offered, file)
    threshold = choice.pass_at if choice.pass_at is not None else number(report.setup.get("run.eval_threshold"))
    threshold = _THRESHOLD if threshold is None else threshold
    found = _all_found(report, detector, threshold)
    _check_hits(report, detector, found, file)
    return Reading(
        source=Source(file, "garak", report.versions[0], sha256_hex(data), suite, arm, detector),
        found=found,
        expected=_expected(report, detector, found),
        metrics=(Metric("attack_success_rate", (HIT,), "higher"),),
        labels=(HIT, PASSED),
        notes=(f"garak target {report.setup.get('plugins.target_name')}; a hit from {threshold:g} on",),
    )


def _sorted(data: bytes, file: str) -> _Report:
    report = _Report()
    for where, row in rows(data, file):
        kind = row.get("entry_type")
        if kind == "attempt":
            key = identifier(row.get("uuid"), where)
            place = report.judged if whole(row, "status", where) >= _JUDGED else report.made
            if place.setdefault(key, (where, row))[0] != where:
                raise UsageError(f"{where}: attempt {key} is there twice")
        elif kind == "init":
            report.versions.append(release(row.get("garak_version")))
        elif kind == "start_run setup":
            report.setup = row
        elif kind == "eval":
            report.counts.append((where, row))
        elif kind == "completion":
            report.ended = True
    return report


def _all_found(report: _Report, detector: str, threshold: float) -> tuple[Found, ...]:
    """Return one sample for each answer of each attempt; an attempt that was never judged is a problem of its own."""
    seen: Counter[str] = Counter()
    found: list[Found] = []
    for key, (where, row) in {**report.made, **report.judged}.items():
        probe = identifier(row.get("probe_classname"), where)
        base = f"{probe}/{_sequence_number(row)}"
        seen[base] += 1
        item_id = base if seen[base] == 1 else f"{base}/{seen[base]}"  # later turns of one conversation
        found += _answers((where, row), (item_id, probe), detector, threshold if key in report.judged else None)
    return tuple(found)


def _sequence_number(row: Mapping[str, object]) -> str:
    value = row.get("seq")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "turn"


def _answers(at: _Row, names: tuple[str, str], detector: str, threshold: float | None) -> list[Found]:
    """Return the samples of an attempt; `names` is (item id, probe); a threshold of None means: never judged."""
    where, row = at
    item_id, probe = names
    prompt = _prompt(where, row)
    outputs = sequence(row, "outputs", where)
    results = mapping(row, "detector_results", where)
    if threshold is None or detector not in results or not outputs:
        problem = "it was never judged" if threshold is None else f"{detector} did not judge it"
        return [Found(item_id, 0, prompt, "", slice=probe, problem=problem if outputs else "the model gave no answer")]
    scores = sequence(results, detector, where)
    found = []
    for n in range(max(len(outputs), len(scores))):
        output = _said(outputs[n], where) if n < len(outputs) else None
        score = number(scores[n]) if n < len(scores) else None
        problem = "the model gave no answer" if output is None else ""
        problem = problem or (f"{detector} gave it no finite score" if score is None else "")
        label = "" if score is None else HIT if score >= threshold else PASSED
        found.append(Found(item_id, n, prompt, output or "", probe, "", score or 0.0, label, problem))
    return found


def _prompt(where: str, row: Mapping[str, object]) -> str:
    """Return what was asked: one turn as it is, several with their roles in front; older reports have plain text."""
    value = row.get("prompt")
    if isinstance(value, str):
        return encodable(value, where)
    turns = sequence(mapping(row, "prompt", where), "turns", where)
    texts = [(turn.get("role"), _said(turn.get("content"), where) or "") for turn in turns if isinstance(turn, dict)]
    if not texts or len(texts) != len(turns):
        raise UsageError(f"{where}: `prompt` has no turns")
    return texts[0][1] if len(texts) == 1 else "\n".join(f"{role}: {said}" for role, said in texts)


def _said(message: object, where: str) -> str | None:
    """Return the text of a message, or None where there is none."""
    value = message.get("text") if isinstance(message, dict) else message
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"{where}: a message has no text")
    return encodable(value, where)


def _counted(report: _Report, detector: str) -> Mapping[str, _Row]:
    """Return garak's own count of each probe under one detector."""
    names = (detector, f"detector.{detector}")
    return {text(row, "probe", at): (at, row) for at, row in report.counts if row.get("detector") in names}


def _expected(report: _Report, detector: str, found: tuple[Found, ...]) -> int:
    """Return how many answers there must be: for each probe the larger of what garak counted and what is here."""
    ours = Counter(one.slice for one in found)
    for probe, (_, row) in _counted(report, detector).items():
        theirs = row.get("total_processed")
        if isinstance(theirs, int) and not isinstance(theirs, bool):
            ours[probe] = max(ours[probe], theirs)
    return ours.total()


def _check_hits(report: _Report, detector: str, found: tuple[Found, ...], file: str) -> None:
    """Hold our hits against the ones that garak counted: the threshold of a run is not always in its report.

    Raises:
        UsageError: when they differ, or garak did not count a probe that has scores.
    """
    ours = Counter(one.slice for one in found if one.label == HIT and not one.problem)
    scored = {one.slice for one in found if not one.problem}
    theirs = {probe: whole(row, "fails", at) for probe, (at, row) in _counted(report, detector).items()}
    for probe in sorted(scored):
        if probe not in theirs:
            raise UsageError(f"{file}: garak did not evaluate {probe} with {detector}", hint=_AGAIN)
        if ours[probe] != theirs[probe]:
            raise UsageError(
                f"{file}: garak counted {theirs[probe]} hits of {detector} in {probe}, this threshold gives "
                f"{ours[probe]}",
                hint="name the threshold that garak was run with (its run.eval_threshold)",
            )
