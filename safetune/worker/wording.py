"""Put a stage's rows into the words of its prompt template: its system message, its chat template.

A template that TRL would train with, and mask in the wrong place, is refused before anything is trained: TRL itself
goes on with a line in a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.rows import MESSAGES, shape
from safetune.worker.rows import NumberedRow, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST = 2_000  # rows that are put into words twice to see that a chat template fits
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")
_HINT = "mend the chat template of the stage's `template`"


def worded(job: Mapping[str, Any], rows: Sequence[NumberedRow]) -> tuple[NumberedRow, ...]:
    """Return rows with the system message of the job's template before those that have none of their own."""
    system = _part(job, "system")
    if not system:
        return tuple(rows)
    return tuple(replace(row, content=_with_system(row.content, system)) for row in rows)


def _with_system(row: Row, system: str) -> Row:
    column = _column(row)
    turns = list(row[column])
    if any(turn["role"] == "system" for turn in turns):
        return row
    return {**row, column: [{"role": "system", "content": system}, *turns]}


def _column(row: Row) -> str:
    """Return where a conversation begins."""
    return "messages" if shape(row) == MESSAGES else "prompt"


def system_of(job: Mapping[str, Any]) -> str:
    """Return the system message of the job's template; empty for none."""
    return _part(job, "system")


def use(job: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer the chat template of the job, where it has one."""
    if text := _part(job, "chat_template"):
        tokenizer.chat_template = text


def told(job: Mapping[str, Any], rows: Sequence[NumberedRow]) -> Mapping[str, JSON]:
    """Return how many distinct rows begin with the template's system message, and how many keep one of their own."""
    system = _part(job, "system")
    if not system:
        return {}
    first = [row.content[_column(row.content)][0]["content"] for row in {row.number: row for row in rows}.values()]
    given = sum(text == system for text in first)
    return {"system_given": given, "system_kept": len(first) - given}


def note(found: Mapping[str, JSON]) -> str:
    """Return what `told` says as a sentence."""
    given, kept = found["system_given"], found["system_kept"]
    return f"{given} rows get the system message of the stage's template, {kept} keep their own"


def check(job: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, rows: Sequence[NumberedRow]) -> None:
    """Refuse a template that leaves messages out, or with which the loss would begin in the wrong place.

    Raises:
        UsageError: saying what is wrong with the template.
    """
    own = not _part(job, "chat_template")
    if own and not _part(job, "system"):
        return
    if job["train"].get("assistant_only_loss") and not own and not _GENERATION.search(_part(job, "chat_template")):
        raise UsageError(
            "assistant_only_loss needs a chat template that marks the assistant's words with {% generation %}",
            hint=_HINT,
        )
    for row in list({row.number: row for row in rows}.values())[:_MOST]:
        for before, answer in _conversations(row.content):
            _check(tokenizer, before, answer, own)


def _conversations(row: Row) -> Iterator[tuple[list[Row], list[Row]]]:
    """Yield what comes before what is learnt, and what is learnt, of a row."""
    if shape(row) == MESSAGES:
        yield list(row["messages"])[:-1], list(row["messages"])[-1:]
        return
    for column in ("completion", "chosen", "rejected"):
        if column in row:
            yield list(row["prompt"]), list(row[column])


def _check(tokenizer: PreTrainedTokenizerBase, before: list[Row], answer: list[Row], own: bool) -> None:
    which = "the model's own chat template" if own else "the chat template of the stage"
    whole = _text(tokenizer, [*before, *answer], which)
    for turn in (*before, *answer):
        if turn["content"].strip() not in whole:
            raise UsageError(f"{which} leaves out a message of the role {turn['role']}", hint=_HINT)
    if own or not before:
        return
    prompt = _text(tokenizer, before, which, add_generation_prompt=True)
    if not whole.startswith(prompt):
        raise UsageError(
            f"{which} puts a prompt into other words when an answer follows it, so the loss would begin in the wrong "
            "place",
            hint="with `add_generation_prompt` it must write exactly what stands before the assistant's words",
        )
    ids, all_ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole))
    if all_ids[: len(ids)] != ids:
        raise UsageError(
            f"{which} ends a prompt within a token: its end melts into the first token of the answer",
            hint="end what it writes before the assistant's words with a line break or a special token",
        )


def _text(tokenizer: PreTrainedTokenizerBase, turns: list[Row], which: str, **how: bool) -> str:
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **how))
    except Exception as error:  # a template may raise whatever it likes
        raise UsageError(f"{which} refuses a row: {str(error)[:200]}", hint=_HINT) from error


def give_back(job: Mapping[str, Any], output: Path) -> None:
    """Save a whole model with its own chat template: what it is served with is for the playbook to say."""
    if not _part(job, "chat_template"):
        return
    from safetune.worker.model import load_tokenizer

    (output / "chat_template.jinja").unlink(missing_ok=True)
    load_tokenizer(Path(job["model"]["base"])).save_pretrained(output)


def _part(job: Mapping[str, Any], name: str) -> str:
    return str((job.get("prompt") or {}).get(name) or "")
