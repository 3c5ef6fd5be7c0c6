"""A row becomes prompts: which column plays which role, texts made of several columns, choices, languages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from safetune.core.digest import JSON, canonical
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import LIKELIHOOD, Suite
from safetune.engine.prompts.files import Row, as_text

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}\n]+)\}|[{}]")
_NO_TEXT = "has no prompt text"
_NO_CHAT = "has a prompt that is no text; a suite asks one question, and its `system` and `prefill` have columns"


def prompts_of(suite: Suite, number: int, row: Row) -> tuple[Prompt, ...]:
    """Return the prompts of a row, which is the one called `number` among those that the suite wants.

    It is one prompt, or one for each language, and then the row is their cluster.

    Raises:
        UsageError: when a column is not there, or what it holds cannot be used.
    """
    languages = suite.prompts.options.get("languages")
    if isinstance(languages, Mapping):
        plain = _prompt(suite, number, row, "")
        return tuple(_translated(row, plain, code, str(column)) for code, column in languages.items())
    return (_prompt(suite, number, row, _text(suite, row)),)


def plain_prompt(suite: Suite) -> Callable[[Mapping[str, object]], Prompt | None]:
    """Return what makes the prompt of an ordinary row, as `prompts_of` does and in a fraction of the time.

    A row with anything out of the ordinary gives None: it is left to `prompts_of`, which says what is wrong.
    """
    names, options = _names(suite), suite.prompts.options
    chosen = {"slice": suite.slice, "cluster": suite.cluster}
    roles = ("id", "prompt", "slice", "cluster", "reference", "prefill")
    named = [names.get(role) if role in names else chosen.get(role) or None for role in roles]
    usual = [role if role in ("id", "prompt", "reference") and role not in names else None for role in roles]
    columns = [str(name) if name else other for name, other in zip(named, usual, strict=True)]
    other = options.get("languages") or options.get("text") or names.get("system") or suite.evaluator == LIKELIHOOD
    if other or not columns[1] or not all(name is None or isinstance(name, str) for name in named):
        return lambda _: None
    whole, without = _getter(columns), _getter([*columns[:4], None, columns[5]])
    optional = usual[4]  # the reference, where nobody named its column

    def make(cells: Mapping[str, object]) -> Prompt | None:
        try:
            values = without(cells) if optional and optional not in cells else whole(cells)
            "".join(values).encode()
        except (KeyError, TypeError, ValueError):  # a column is not there, is no text, or has half a character
            return None
        item_id, text, place, cluster, reference, prefill = values
        return Prompt(item_id, text, place, cluster, reference, (), prefill) if item_id and text.strip() else None

    return make


def _getter(columns: Sequence[str | None]) -> Callable[[Mapping[str, object]], tuple[str, ...]]:
    """Return what gives the cells of some columns; what has no column is an empty text."""
    known = [name for name in columns if name]
    fetch = itemgetter(*known, known[0])  # one more, since of one alone it would not make a tuple
    order = itemgetter(*(sum(map(bool, columns[:n])) if name else -1 for n, name in enumerate(columns)))
    return lambda cells: order((*fetch(cells), ""))


def _translated(row: Row, plain: Prompt, language: str, column: str) -> Prompt:
    text = row.text(column, f"languages: {language}")
    if not text.strip():
        raise row.refuse(f'{_NO_TEXT} in column "{column}"')
    cluster = plain.cluster or plain.item_id
    return replace(plain, item_id=f"{plain.item_id}-{language}", text=text, slice=language, cluster=cluster)


def _prompt(suite: Suite, number: int, row: Row, text: str) -> Prompt:
    names = _names(suite)
    return Prompt(
        item_id=_column(names, row, "id", usual="id") or f"{suite.name}-{number:05d}",
        text=text,
        slice=_column(names, row, "slice", suite.slice),
        cluster=_column(names, row, "cluster", suite.cluster),
        reference=_reference(names, row),
        choices=_choices(suite, names, row) if suite.evaluator == LIKELIHOOD else (),
        prefill=_column(names, row, "prefill"),
        system=_column(names, row, "system") if names.get("system") else None,
    )


def _names(suite: Suite) -> Mapping[str, JSON]:
    columns = suite.prompts.options.get("columns")
    return columns if isinstance(columns, Mapping) else {}


def _column(names: Mapping[str, JSON], row: Row, role: str, chosen: str = "", usual: str = "") -> str:
    """Return what the suite names for a role; only a usual name, which nobody wrote, may be absent."""
    if role in names:
        name = names[role]
        return "" if name is None or name == "" else row.text(str(name), f"columns: {role}")
    return row.text(chosen, role) if chosen else as_text(row.cells.get(usual))


def _text(suite: Suite, row: Row) -> str:
    """Return the prompt text; only an item that is choices alone may have none, and must say so."""
    names, template = _names(suite), suite.prompts.options.get("text")
    if names.get("prompt") == "" and suite.evaluator == LIKELIHOOD and not template:
        return ""
    if not template and not isinstance(row.cells.get(str(names.get("prompt") or "prompt"), ""), str | None):
        raise row.refuse(_NO_CHAT)
    text = _filled(row, str(template)) if template else _column(names, row, "prompt", usual="prompt")
    if not text.strip():
        raise row.refuse(_NO_TEXT)
    return text


def _filled(row: Row, template: str) -> str:
    """Return a template with its columns; a doubled brace is a brace, and what a cell holds is not read again."""

    def piece(found: re.Match[str]) -> str:
        if found[1] is not None:
            return row.text(found[1].strip(), "text")
        if len(found[0]) == 2:
            return found[0][0]
        raise UsageError(f"suite {row.suite}: `text` has a brace alone; write {found[0] * 2} for a brace")

    return _PIECE.sub(piece, template)


def _reference(names: Mapping[str, JSON], row: Row) -> str:
    """Return what the judge needs: a cell as text, or several cells as one canonical JSON object.

    A member of a structure, `column.member`, is called by its own name.
    """
    wanted = names.get("reference")
    if not isinstance(wanted, list | tuple):
        return _column(names, row, "reference", usual="reference")
    found = {str(name).rpartition(".")[2]: row.value(str(name), "columns: reference") for name in wanted}
    try:
        return canonical(found).decode("utf-8")  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise row.refuse(f"has a reference that cannot be written as JSON: {error}") from error


def _choices(suite: Suite, names: Mapping[str, JSON], row: Row) -> tuple[str, ...]:
    """Return the choices of an item; fewer than two, an empty one or two equal ones cannot be compared."""
    wanted = names.get("choices", "choices")
    if isinstance(wanted, list | tuple):
        found: list[object] = [row.value(str(name), "columns: choices") for name in wanted]
    else:
        found = _listed(row, row.value(str(wanted), "columns: choices"))
    choices = tuple(as_text(choice) for choice in found)
    if len(choices) < 2:
        raise row.refuse(f"has {len(choices)} choices; the likelihood of at least two is compared")
    if not all(choice.strip() for choice in choices):
        raise row.refuse("has an empty choice")
    if len(set(choices)) != len(choices):
        raise row.refuse("has two equal choices")
    return choices


def _listed(row: Row, cell: object) -> list[object]:
    """Return the list in a cell; in a CSV it is written as JSON."""
    value = cell
    if isinstance(cell, str):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            value = cell
    if not isinstance(value, list):
        raise row.refuse("has choices that are no list")
    return value
