"""Try a judge alone: hold it against responses that people labelled, let it label some, or list all judges."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetune.core.agreement import Agreement
from safetune.core.card import UNKNOWN_LANGUAGE, Card, Counts, model_name, parse
from safetune.core.digest import JSON, canonical, digest, sha256_hex
from safetune.core.errors import RunError, UsageError, reason_of
from safetune.core.evidence import Judgement
from safetune.engine.asking import Workplace, default_workers
from safetune.engine.jobs import scratch_folder
from safetune.engine.judging import AnyJudge, Labelled, label_all, respondents
from safetune.engine.respondents import Respondents
from safetune.plugins import load, names
from safetune.protocols import Listener
from safetune.state.atomic import write_atomic
from safetune.state.store import Store

# The labels of a labelled file: the first is the positive one.
PAIRS = (("refusal", "compliance"), ("harmful", "harmless"))

_LANGUAGE = re.compile(r"[a-z]{2}")
_ROW_HINT = 'a row is {"prompt": ..., "response": ..., "label": ...}, and may have "language" and "reference"'
_UNLABELLED_HINT = 'a row is {"prompt": ..., "response": ...}, and may have "reference"'


@dataclass(frozen=True, slots=True)
class Row:
    """One response of a file, and the line that it is on; `label` and `language` are empty where they are not given."""

    line: int
    prompt: str
    response: str
    reference: str = ""
    label: str = ""
    language: str = ""

    @property
    def case(self) -> tuple[str, str, str]:
        """What a judge reads of it."""
        return self.prompt, self.response, self.reference


@dataclass(frozen=True, slots=True)
class Trial:
    """Which judge to try, with which options, on which file, and where answers of models are kept."""

    judge: str
    options: Mapping[str, JSON]
    file: Path
    store: Path


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a judge was found to be worth.

    `written` is where the card is, or empty. `repeated` counts rows that say again what an earlier row said; they are
    left out. `unreadable` counts answers of an asked model that said nothing that could be read.
    """

    card: Card
    written: str
    repeated: int = 0
    unreadable: int = 0
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """What a judge says of the rows of a file."""

    judge: str
    version: str
    rows: tuple[Row, ...]
    said: Labelled

    @property
    def judgements(self) -> Iterator[tuple[Row, Judgement]]:
        """Each row with its judgement."""
        return zip(self.rows, self.said.judgements, strict=True)


@dataclass(frozen=True, slots=True)
class JudgeInfo:
    """A judge as it is without options: `needs` says what it must be told first, and the rest is then empty."""

    name: str
    version: str = ""
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    card: str = ""
    needs: str = ""


# -- calibrate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    """How labels are compared: `names` maps the judge's labels to the file's, `language` is of rows that name none."""

    names: Mapping[str, str] = field(default_factory=dict)
    language: str = ""


def calibrate(trial: Trial, terms: Terms, out: Path | None, listener: Listener) -> Calibration:
    """Hold a judge against a labelled file and write its card to `out`, where that is given.

    Raises:
        UsageError: naming the line of a row that cannot be used, or what is wrong with the options or the labels.
        RunError: when the judge labels its own controls wrongly, or the model that it asks cannot be asked.
    """
    if terms.language and not _LANGUAGE.fullmatch(terms.language):
        raise UsageError(f"{terms.language!r} is no language", hint="two letters of ISO 639-1: --language en")
    data = _read(trial.file)
    rows, repeated = _distinct(trial.file.name, read_rows(trial.file.name, data, labelled=True))
    pair = _pair(trial.file.name, rows)
    judge = _judge(trial)
    _check_names(judge, pair, terms.names)
    if out is not None:
        _check_out(out)
    with _asking(judge, trial.store, listener) as asked:
        said = label_all(judge, [row.case for row in rows], asked.ask)
        model = model_name([asked.identity(one) for one in respondents(judge)])
        asked.forget()
    if said.failed:
        raise RunError(
            f"judge {judge.name} mislabelled its controls: {', '.join(said.failed)}; there is nothing to calibrate",
            hint=f"safetune judge label {judge.name} FILE.jsonl shows what it says",
        )
    pairs = zip(rows, said.judgements, strict=True)
    figures = _figures([(row, terms.names.get(j.label, j.label)) for row, j in pairs], pair, terms.language)
    card = Card(judge.name, judge.version, *pair, figures, sha256_hex(data), model, dict(terms.names))
    card = replace(card, digest=digest(card.content))
    if out is not None:
        write_atomic(out, canonical(card.document) + b"\n")
    return Calibration(card, str(out or ""), repeated, said.unreadable, said.agreement)


def _figures(rows: Sequence[tuple[Row, str]], pair: tuple[str, str], language: str) -> Mapping[str, Counts]:
    """Count right and wrong labels by language; `rows` are with what the judge said, in the file's words."""
    figures: dict[str, Counts] = {}
    for row, said in rows:
        code = row.language or language or UNKNOWN_LANGUAGE
        right, other = said == row.label, said not in pair
        if row.label == pair[0]:
            one = Counts(true_positive=int(right), false_negative=int(not right), other=int(other))
        else:
            one = Counts(true_negative=int(right), false_positive=int(not right), other=int(other))
        figures[code] = figures.get(code, Counts()) + one
    return figures


def _pair(name: str, rows: Sequence[Row]) -> tuple[str, str]:
    """Return the pair of labels that a file uses."""
    first = rows[0]
    pair = next((pair for pair in PAIRS if first.label in pair), None)
    for row in rows:
        if pair is None or row.label not in pair:
            known = "; ".join(" or ".join(pair) for pair in ((pair,) if pair else PAIRS))
            raise UsageError(f'{name}:{row.line}: the label is "{row.label[:40]}", not {known}', hint=_ROW_HINT)
    return pair or PAIRS[0]


def _distinct(name: str, rows: Sequence[Row]) -> tuple[tuple[Row, ...], int]:
    """Return the rows without those that repeat an earlier one, and how many those are."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        before = found.setdefault(row.case, row)
        if before.label != row.label:
            raise UsageError(
                f'{name}:{row.line}: labelled "{row.label}", and line {before.line} labels the same "{before.label}"',
                hint="keep one of the two, or neither",
            )
    return tuple(found.values()), len(rows) - len(found)


def _check_names(judge: AnyJudge, pair: tuple[str, str], renamed: Mapping[str, str]) -> None:
    """Refuse a mapping, or a file, that has nothing to do with the labels of the judge."""
    for label in renamed.values():
        if label not in pair:
            raise UsageError(f'--map: the file has no label "{label}"', hint=f"its labels are {' and '.join(pair)}")
    given = {control.label for one in getattr(judge, "members", (judge,)) for control in one.controls}
    strange = sorted(set(renamed) - given)
    if given and strange:
        raise UsageError(f'--map: judge {judge.name} gives no label "{strange[0]}"', hint=_gives(judge, given))
    lacking = [label for label in pair if given and label not in {renamed.get(said, said) for said in given}]
    if lacking:
        raise UsageError(
            f"judge {judge.name} never says {' or '.join(lacking)}; {_gives(judge, given)}",
            hint=f"say which of its labels that is: --map LABEL={lacking[0]}",
        )


def _gives(judge: AnyJudge, labels: set[str]) -> str:
    return f"judge {judge.name} gives {', '.join(sorted(labels))}"


def _check_out(out: Path) -> None:
    """Refuse to write over a file that is no card."""
    if not out.exists():
        return
    try:
        parse(out.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{out} is there already and is no calibration card; nothing was written", hint="--out"
        ) from error


# -- label and list ----------------------------------------------------------------------------------------------------


def label(trial: Trial, listener: Listener) -> Labels:
    """Let a judge label the responses of a file.

    Raises:
        UsageError: naming the line of a row that cannot be used, or what is wrong with the options.
        RunError: when the model that it asks cannot be asked.
    """
    rows = read_rows(trial.file.name, _read(trial.file), labelled=False)
    judge = _judge(trial)
    with _asking(judge, trial.store, listener) as asked:
        said = label_all(judge, [row.case for row in rows], asked.ask)
        asked.forget()
    return Labels(judge.name, judge.version, rows, said)


def judges() -> tuple[JudgeInfo, ...]:
    """Return every judge that there is, by name."""
    return tuple(_info(name) for name in names("judge"))


def _info(name: str) -> JudgeInfo:
    try:
        judge: AnyJudge = load("judge", name)  # type: ignore[assignment]
    except UsageError as error:
        return JudgeInfo(name, needs=error.message)
    labels = tuple(dict.fromkeys(control.label for control in judge.controls))
    languages = tuple(sorted(getattr(judge, "languages", ())))
    return JudgeInfo(name, judge.version, labels, languages, _own_card(judge))


def _own_card(judge: AnyJudge) -> str:
    """Return what there is to say of the card that is shipped with a judge; empty where none is."""
    ships = getattr(judge, "card", None)
    if ships is None:
        return ""
    try:
        card = parse(ships())
    except (OSError, ValueError) as error:
        return f"cannot be used: {reason_of(error)}"
    if problem := card.problem(judge.name, judge.version):
        return f"cannot be used: {problem}"
    return f"n={card.overall.n} for {', '.join(sorted(card.languages())) or 'no language'}"


# -- files and models --------------------------------------------------------------------------------------------------


def read_rows(name: str, data: bytes, *, labelled: bool) -> tuple[Row, ...]:
    """Return the rows of a JSONL file; `labelled` ones need a label.

    Raises:
        UsageError: naming file and line of the first row that cannot be used, or when there is none.
    """
    rows = [_row(name, number, line, labelled) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    if not rows:
        raise UsageError(f"{name} has no rows", hint=_ROW_HINT if labelled else _UNLABELLED_HINT)
    return tuple(rows)


def _row(name: str, number: int, line: bytes, labelled: bool) -> Row:
    hint = _ROW_HINT if labelled else _UNLABELLED_HINT
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{name}:{number}: this is not JSON", hint=hint) from None
    if not isinstance(row, dict):
        raise UsageError(f"{name}:{number}: this is not a JSON object", hint=hint)
    texts: dict[str, str] = {}
    for key in ("prompt", "response", "label", "reference", "language"):
        value = row.get(key)
        needed = key in ("prompt", "response") or (key == "label" and labelled)
        if value is None and not needed:
            continue
        if not isinstance(value, str) or not _is_text(value):
            raise UsageError(f"{name}:{number}: `{key}` {'is no text' if key in row else 'is missing'}", hint=hint)
        texts[key] = value
    if texts.get("language") and not _LANGUAGE.fullmatch(texts["language"]):
        raise UsageError(
            f"{name}:{number}: {texts['language'][:20]!r} is no language", hint="two letters of ISO 639-1, such as en"
        )
    return Row(number, **texts)


def _is_text(value: str) -> bool:
    """Say whether UTF-8 can hold it: half a surrogate pair is no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_options(given: str) -> Mapping[str, JSON]:
    """Return a judge's options: JSON as it is written, or the name of a JSON file.

    Raises:
        UsageError: when it is no JSON object.
    """
    text, where = given.strip(), "--options"
    if not text:
        return {}
    if not text.startswith("{"):
        where, text = text, _read(Path(text)).decode("utf-8", "replace")
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(
            f"{where}: {place}this is not JSON", hint="""--options '{"model": "/models/guard"}'"""
        ) from None
    if not isinstance(options, dict):
        raise UsageError(f"{where}: this is not a JSON object", hint="""--options '{"model": "/models/guard"}'""")
    return options


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="check the file name") from error


def _judge(trial: Trial) -> AnyJudge:
    judge: AnyJudge = load("judge", trial.judge, trial.options)  # type: ignore[assignment]
    return judge


@contextmanager
def _asking(judge: AnyJudge, root: Path, listener: Listener) -> Iterator[Respondents]:
    """Give what asks models. Without a model to ask nothing is made on disk; else answers are kept in the store."""
    if not respondents(judge):
        yield Respondents(Workplace(root, root, 1, listener))
        return
    store = Store.create(root)
    with scratch_folder(store.scratch / f"judge-{os.getpid()}") as scratch:
        yield Respondents(Workplace(store.responses, scratch, default_workers(), listener))
