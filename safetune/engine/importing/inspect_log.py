"""Logs of Inspect AI: the `.eval` archive and the `.json` file (log format 2, written by Inspect 0.3.285).

A score of C, P or I (or yes, no, true, false) is 1, 0.5 or 0 as in Inspect; N is no answer. A score of NaN is Inspect's
word for "not scored".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from safetune.core.digest import sha256_hex
from safetune.core.errors import UsageError
from safetune.core.suite import Metric
from safetune.engine.importing.inspect_zip import CONVERT, Archive
from safetune.engine.importing.interface import (
    ANSWER_LABELS,
    CORRECT,
    INCORRECT,
    NO_ANSWER,
    PARTIAL,
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
    release,
    sequence,
    text,
    whole,
)

ZIP_MAGIC = b"PK\x03\x04"
_HEADER = "header.json"
_SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json")
_IN_PIECES = re.compile(r"samples/.+_epoch_\d+/sample\.json")
_WORDS = {
    **{"C": (CORRECT, 1.0), "I": (INCORRECT, 0.0), "P": (PARTIAL, 0.5), "N": (NO_ANSWER, 0.0)},
    **{"yes": (CORRECT, 1.0), "true": (CORRECT, 1.0), "no": (INCORRECT, 0.0), "false": (INCORRECT, 0.0)},
}
_ATTACHED = "attachment://"
_RERUN = "let Inspect finish it: inspect eval-retry FILE"

_Row = tuple[str, Mapping[str, object]]  # where it is, for messages, and the sample


@dataclass(frozen=True, slots=True)
class _Log:
    """A log that has ended well: its name, its header and its samples."""

    file: str
    header: Mapping[str, object]
    samples: Sequence[_Row]


def read_inspect(data: bytes, whose: tuple[str, str, str], choice: Choice) -> Reading:
    """Return what an Inspect log holds; `whose` is (file name, suite, arm).

    Raises:
        UsageError: when it is no log that ended well, or a choice is missing.
    """
    file, suite, arm = whose
    log = _archive(data, file) if data.startswith(ZIP_MAGIC) else _json(data, file)
    _check_ended(log)
    spec = mapping(log.header, "eval", file)
    version = release(mapping(spec, "packages", file).get("inspect_ai"))
    offered = [name for where, row in log.samples for name in mapping(row, "scores", where)]
    scorer = choose(choice.scorer, offered, file)
    found = tuple(_found(where, row, scorer, choice) for where, row in log.samples)
    return Reading(
        source=Source(file, "inspect", version, sha256_hex(data), suite, arm, scorer),
        found=found,
        expected=_expected(log, spec),
        metrics=(Metric("accuracy", (CORRECT,), "lower"),),
        labels=ANSWER_LABELS,
        notes=_notes(log, spec),
    )


def _archive(data: bytes, file: str) -> _Log:
    archive = Archive(data, file)
    if _HEADER not in archive.names:
        raise UsageError(f"{file} has no {_HEADER}: the run did not end", hint=_RERUN)
    header = dict(archive.contents([_HEADER]))[_HEADER]
    if any(_IN_PIECES.fullmatch(name) for name in archive.names):
        raise UsageError(f"{file} has very long samples, which Inspect kept in pieces", hint=CONVERT)
    names = [name for name in archive.names if _SAMPLE.fullmatch(name)]
    samples = [_slim(f"{file}:{n}", parse(content, f"{file}:{n}")) for n, content in archive.contents(names)]
    return _Log(file, parse(header, f"{file}:{_HEADER}"), samples)


def _json(data: bytes, file: str) -> _Log:
    header = parse(data, file)
    found = []
    for n, row in enumerate(sequence(header, "samples", file), 1):
        if not isinstance(row, dict):
            raise UsageError(f"{file}: sample {n} is not an object")
        found.append((f"{file}: sample {n}", row))
    return _Log(file, header, found)


def _slim(where: str, row: Mapping[str, object]) -> _Row:
    """Leave out the events of a sample: they are most of it, and nothing here reads them."""
    return where, {name: value for name, value in row.items() if name not in ("events", "events_data", "store")}


def _check_ended(log: _Log) -> None:
    status = log.header.get("status")
    if status != "success":
        raise UsageError(f'{log.file}: the run ended with status "{status}", not "success"', hint=_RERUN)
    if log.header.get("invalidated") is True:
        raise UsageError(f"{log.file}: somebody marked samples of this log as invalid", hint="run it again")
    if not log.samples:
        raise UsageError(f"{log.file} has no samples", hint="run Inspect without --no-log-samples")


def _expected(log: _Log, spec: Mapping[str, object]) -> int:
    """Return how many samples there must be: the larger of what the dataset and the results say."""
    results = mapping(log.header, "results", log.file)
    total = whole(results, "total_samples", f"{log.file}: results")
    dataset, config = mapping(spec, "dataset", log.file), mapping(spec, "config", log.file)
    ids, epochs = dataset.get("sample_ids"), config.get("epochs")
    times = epochs if isinstance(epochs, int) and epochs > 0 else 1
    return max(total, times * len(ids) if isinstance(ids, list) else 0)


def _found(where: str, row: Mapping[str, object], scorer: str, choice: Choice) -> Found:
    item_id = identifier(row.get("id"), where)
    metadata = mapping(row, "metadata", where)
    label, score, problem = _judged(where, row, scorer, choice.pass_at)
    return Found(
        item_id=item_id,
        sample=max(0, whole(row, "epoch", where) - 1),
        prompt=cell(metadata, choice.prompt, where) or _said(where, row, row.get("input")),
        output=_output(where, row),
        slice=cell(metadata, choice.slice, where),
        cluster=cell(metadata, choice.cluster, where),
        score=score,
        label=label,
        problem=_unfinished(where, row) or problem,
    )


def _unfinished(where: str, row: Mapping[str, object]) -> str:
    if error := row.get("error"):
        said = error.get("message") if isinstance(error, dict) else ""
        return f"it ended with an error: {str(said)[:80]}"
    if row.get("invalidation"):
        return "somebody marked it as invalid"
    if limit := row.get("limit"):
        kind = limit.get("type") if isinstance(limit, dict) else ""
        return f"it ran into a limit: {str(kind)[:40]}"
    if not sequence(mapping(row, "output", where), "choices", where):
        return "the model gave no answer"
    return ""


def _judged(where: str, row: Mapping[str, object], scorer: str, pass_at: float | None) -> tuple[str, float, str]:
    """Return label, score and problem of a sample."""
    scores = mapping(row, "scores", where)
    if scorer not in scores:
        return "", 0.0, f"it has no score of {scorer}"
    value = mapping(scores, scorer, where).get("value")
    if isinstance(value, str):
        return _worded(value, pass_at)
    score = number(value)
    if score is None:
        return "", 0.0, "its score is not one finite number or word"
    label, problem = graded(score, pass_at, (CORRECT, INCORRECT))
    return label, score, problem


def _worded(value: str, pass_at: float | None) -> tuple[str, float, str]:
    known = _WORDS.get(value) or _WORDS.get(value.lower() if len(value) > 1 else "")
    if known is None:
        return "", 0.0, f"its score {value[:40]!r} is none of C, I, P, N, yes and no"
    label, score = known
    if pass_at is not None and value != "N":
        label = graded(score, pass_at, (CORRECT, INCORRECT))[0]
    return label, score, ""


def _output(where: str, row: Mapping[str, object]) -> str:
    output = mapping(row, "output", where)
    choices = sequence(output, "choices", where)
    first = choices[0] if choices else {}
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else output.get("completion")
    return _joined(where, row, content)


def _said(where: str, row: Mapping[str, object], value: object) -> str:
    """Return the prompt: the text, the one message, or several messages with their roles in front."""
    if not isinstance(value, list):
        return _joined(where, row, value)
    messages = [m for m in value if isinstance(m, dict)]
    if len(messages) != len(value) or not messages:
        raise UsageError(f"{where}: `input` has something else than messages")
    texts = [_joined(where, row, m.get("content")) for m in messages]
    if len(messages) == 1:
        return texts[0]
    return "\n".join(f"{m.get('role')}: {said}" for m, said in zip(messages, texts, strict=True))


def _joined(where: str, row: Mapping[str, object], content: object) -> str:
    """Return content as text: a text, or the text parts of a list; a text that is kept beside the sample is fetched."""
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return "".join(_texts(where, row, parts))


def _texts(where: str, row: Mapping[str, object], parts: Sequence[object]) -> Iterator[str]:
    for part in parts:
        if not isinstance(part, dict):
            raise UsageError(f"{where}: a message has a part that is not an object")
        if part.get("type") != "text":
            continue
        said = text(part, "text", where)
        if said.startswith(_ATTACHED):
            said = text(mapping(row, "attachments", where), said.removeprefix(_ATTACHED), where)
        yield encodable(said, where)


def _notes(log: _Log, spec: Mapping[str, object]) -> tuple[str, ...]:
    task, model = spec.get("task"), spec.get("model")
    notes = [f"Inspect task {task}, model {model}"]
    edited = [1 for where, row in log.samples for score in mapping(row, "scores", where).values() if _edited(score)]
    if edited:
        notes.append(f"{len(edited)} score(s) were edited after the run")
    return tuple(notes)


def _edited(score: object) -> bool:
    return isinstance(score, dict) and bool(score.get("history"))
