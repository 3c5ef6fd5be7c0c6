"""Read the prompts of a suite: bundled rows, a seeded generator, or a public file in the data root."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON, digest, short
from safetune.core.errors import IntegrityError, SafetuneError, UsageError
from safetune.core.evidence import Prompt
from safetune.core.plan import Fact
from safetune.core.suite import Suite
from safetune.plugins import load
from safetune.protocols import Judge, PromptGenerator
from safetune.state.files import sha256_file

DATA_ROOT_VARIABLE = "SAFETUNE_DATA_ROOT"

_Numbered = tuple[int, Mapping[str, object]]  # a row, and its number in the file


def load_prompts(suite: Suite) -> tuple[Prompt, ...]:
    """Return all prompts of a suite, in file order.

    Raises:
        UsageError: when a file is missing or a row is not usable (with file and line).
        IntegrityError: when a public file is not the pinned one.
    """
    if suite.prompts.kind == "generator":
        prompts = _generated(suite)
    else:
        prompts = tuple(_prompt(suite, n, row) for n, row in enumerate(_rows(suite), start=1))
    _check_distinct(suite, prompts)
    return prompts


def _generated(suite: Suite) -> tuple[Prompt, ...]:
    generator: PromptGenerator = load("prompts", suite.prompts.location)  # type: ignore[assignment]
    seed, count = suite.prompts.options["seed"], suite.prompts.options["count"]
    return generator.prompts(_integer(seed), _integer(count))


def _integer(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"expected a whole number, found {value!r}")
    return value


def _check_distinct(suite: Suite, prompts: tuple[Prompt, ...]) -> None:
    if not prompts:
        raise UsageError(f"suite {suite.name} has no prompts")
    seen = {p.item_id for p in prompts}
    if len(seen) != len(prompts):
        raise UsageError(f"suite {suite.name} has items with the same id")


def locate(suite: Suite) -> Path:
    """Return the file that holds a suite's prompts.

    Raises:
        UsageError: when it is not there, saying where it was looked for.
    """
    if suite.prompts.kind == "bundled":
        path = Path(suite.prompts.location)
        if not path.is_file():
            raise UsageError(f"suite {suite.name}: {path} does not exist")
        return path
    root = os.environ.get(DATA_ROOT_VARIABLE, "")
    path = Path(root) / suite.prompts.location
    if not root or not path.is_file():
        where = f"not found under {root}" if root else f"{DATA_ROOT_VARIABLE} is not set"
        source = suite.prompts.options.get("source", "its public source")
        raise UsageError(
            f"suite {suite.name}: public file {suite.prompts.location} is {where}",
            hint=f"get it from {source} and set {DATA_ROOT_VARIABLE} to the folder that holds it",
        )
    return path


def _rows(suite: Suite) -> Sequence[_Numbered]:
    """Return the rows that the suite wants, each with its number in the file."""
    path = locate(suite)
    found = sha256_file(path)
    if suite.prompts.sha256 and found != suite.prompts.sha256:
        raise IntegrityError(
            f"suite {suite.name}: {path.name} has sha256 {short(found)}, pinned is {short(suite.prompts.sha256)}",
            hint="restore the pinned file, or pin the new one in the suite definition",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"suite {suite.name}: cannot read {path.name}: {error}") from error
    return _select(suite, _parse(suite, path, text))


def _parse(suite: Suite, path: Path, text: str) -> list[Mapping[str, object]]:
    """Return the rows of a JSONL, JSON or CSV text as mappings; a CSV without header has columns "0", "1", ..."""
    kind = str(suite.prompts.options.get("format", "jsonl"))
    try:
        if kind == "csv":
            records = list(csv.reader(io.StringIO(text), strict=True))
            header = records.pop(0) if suite.prompts.options.get("header", True) else []
            names = header or [str(n) for n in range(max(map(len, records), default=0))]
            return [dict(zip(names, record, strict=False)) for record in records]
        if kind == "json":
            content = json.loads(text)
            path_in = suite.prompts.options.get("rows")
            content = content[path_in] if path_in else content
            return [row if isinstance(row, dict) else {"0": row} for row in content]
        return [_json_row(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    except (csv.Error, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"suite {suite.name}: {path.name} cannot be read as {kind}: {error}") from error


def _json_row(path: Path, number: int, line: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path.name}:{number}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path.name}:{number}: a row must be an object")
    return row


def _select(suite: Suite, rows: list[Mapping[str, object]]) -> list[_Numbered]:
    """Keep the rows that the suite's `where` asks for, each with its number.

    A column equals the value; a key that ends in `_prefix`, `_not_prefix` or `_not` asks for something else.
    """
    numbered = list(enumerate(rows, start=1))
    where = suite.prompts.options.get("where")
    if not isinstance(where, Mapping):
        return numbered
    return [row for row in numbered if _is_wanted(suite, row, where)]


def _is_wanted(suite: Suite, row: _Numbered, where: Mapping[str, JSON]) -> bool:
    met = [_matches(suite, row, key, value) for key, value in where.items()]  # all, so that every name is checked
    return all(met)


def _matches(suite: Suite, row: _Numbered, key: str, value: JSON) -> bool:
    suffix = next((s for s in ("_not_prefix", "_prefix", "_not") if key.endswith(s)), "")
    cell, wanted = _named_cell(suite, row, key.removesuffix(suffix), "where"), str(value)
    met = cell.startswith(wanted) if suffix.endswith("_prefix") else cell == wanted
    return not met if suffix.startswith("_not") else met


def _named_cell(suite: Suite, row: _Numbered, name: str, where: str) -> str:
    """Return the cell of a column that the suite names.

    Raises:
        UsageError: when the row has no such column: a misspelt name must not switch off what it was written for.
    """
    number, cells = row
    if name not in cells:
        known = sorted(str(column) for column in cells)
        near = did_you_mean(name, known)
        raise UsageError(
            f'suite {suite.name}: row {number} has no column "{name}", which `{where}` names'
            f"{f'; {near}' if near else ''}",
            hint=f"the columns of the row: {', '.join(known) or 'none'}",
        )
    return _cell(cells, name)


def _cell(row: Mapping[str, object], name: str) -> str:
    """Return a cell as text; nothing, and a JSON null, are the empty text."""
    value = row.get(name)
    return "" if value is None else str(value)


def _prompt(suite: Suite, number: int, row: _Numbered) -> Prompt:
    """Return the prompt of a row, which is the one called `number` among those that the suite wants."""
    columns = suite.prompts.options.get("columns")
    names: Mapping[str, JSON] = columns if isinstance(columns, Mapping) else {}

    def column(role: str, chosen: str = "", usual: str = "") -> str:
        """Return what the suite names for a role; only a usual name, which nobody wrote, may be absent."""
        if role in names:
            name = names[role]
            return "" if name is None or name == "" else _named_cell(suite, row, str(name), f"columns: {role}")
        return _named_cell(suite, row, chosen, role) if chosen else _cell(row[1], usual)

    text = column("prompt", usual="prompt")
    if not text.strip():
        raise UsageError(f"suite {suite.name}: row {row[0]} has no prompt text")
    return Prompt(
        item_id=column("id", usual="id") or f"{suite.name}-{number:05d}",
        text=text,
        slice=column("slice", suite.slice),
        cluster=column("cluster", suite.cluster),
        reference=column("reference", usual="reference"),
    )


def _check_labels(suite: Suite) -> None:
    """Refuse a metric over a label that the judge never gives: its rate would be 0 for any model."""
    try:
        judge: Judge = load("judge", suite.judge.name, suite.judge.options)  # type: ignore[assignment]
    except UsageError:
        return  # said once, where the plugins are surveyed
    labels = {control.label for control in judge.controls}
    for metric in suite.metrics:
        for label in metric.counts:
            if label not in labels:
                raise UsageError(
                    f'suite {suite.name}: metric {metric.name} counts the label "{label}", which the judge '
                    f"{suite.judge.name} does not show in its controls; it shows: {', '.join(sorted(labels))}"
                )


def suite_fact(suite: Suite) -> Fact:
    """Return what a plan needs to know of a suite: identity, items, clusters, or the problem; never raises."""
    try:
        _check_labels(suite)
        prompts = load_prompts(suite)
    except SafetuneError as error:
        return Fact(suite.name, "", None, f"{error.message}{f'; {error.hint}' if error.hint else ''}")
    content = digest([[p.item_id, p.text, p.slice, p.cluster, p.reference] for p in prompts])
    identity = digest({"definition": suite.digest, "prompts": content})
    clusters = len({p.cluster or p.item_id for p in prompts})
    return Fact(suite.name, identity, len(prompts), clusters=clusters)
