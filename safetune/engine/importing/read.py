"""Find out what wrote a results file, and read it."""

from __future__ import annotations

from pathlib import Path

from safetune.core.errors import UsageError
from safetune.engine.importing.garak import read_garak
from safetune.engine.importing.inspect_log import ZIP_MAGIC, read_inspect
from safetune.engine.importing.interface import Choice, Imported, Reading, assemble
from safetune.engine.importing.lm_eval import read_lm_eval, results_file
from safetune.engine.importing.own import SCHEMA, read_own
from safetune.engine.importing.strict import parse, read_bytes

INSPECT, LM_EVAL, GARAK, OWN = "inspect", "lm-eval", "garak", "items"
_HINT = "known: an Inspect log (.eval, .json), lm-eval samples_*.jsonl, a garak report.jsonl, safetune items"


def detect(path: Path) -> str:
    """Return what wrote a results file, by its content: `inspect`, `lm-eval`, `garak` or `items`.

    Raises:
        UsageError: when it cannot be read, or is none of them.
    """
    return _detect(read_bytes(path), path.name)


def read_results(path: Path, suite: str, arm: str, choice: Choice | None = None) -> Imported:
    """Return the results in a file as items of `suite` and `arm`.

    Raises:
        UsageError: when the file cannot be used (naming file and line), the run did not end, or a choice is missing.
    """
    data = read_bytes(path)
    return assemble(_read(path, data, (suite, arm), choice or Choice()))


def companions(path: Path) -> tuple[Path, ...]:
    """Return the other files that reading a results file needs: to keep it elsewhere, keep them beside it.

    All of them keep their names. Only samples of lm-eval have one, and it is named whether or not it is there.
    """
    beside = results_file(path)
    return (beside,) if beside else ()


def _read(path: Path, data: bytes, whose: tuple[str, str], choice: Choice) -> Reading:
    kind = _detect(data, path.name)
    if kind == LM_EVAL:
        return read_lm_eval(path, data, whose, choice)
    reader = {INSPECT: read_inspect, GARAK: read_garak, OWN: read_own}[kind]
    return reader(data, (path.name, *whose), choice)


def _detect(data: bytes, file: str) -> str:
    if data.startswith(ZIP_MAGIC):
        return INSPECT
    try:
        first = parse(data.lstrip().split(b"\n", 1)[0], file)
    except UsageError:  # a JSON text over many lines
        first = parse(data, file) if data.lstrip().startswith(b"{") else {}
    if "entry_type" in first:
        return GARAK
    if "doc_id" in first and ("resps" in first or "filtered_resps" in first):
        return LM_EVAL
    if first.get("schema") == SCHEMA:
        return OWN
    if "eval" in first and "status" in first:
        return INSPECT
    raise UsageError(f"{file} is no results file that safetune knows", hint=_HINT)
