"""Recorded responses: judge and gate what some model answered elsewhere, without loading any model.

A row of the JSONL file is {"output": text} and either {"item_id": ..., "suite": ...} (the suite may be left out where
the id is found in one suite only) or {"prompt": text}. Rows of our own evidence fit as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import sha256_hex, short
from safetune.core.errors import UsageError
from safetune.engine.measure import Measured
from safetune.engine.responses import request

_HINT = 'a row is {"suite": ..., "item_id": ..., "output": ...} or {"prompt": ..., "output": ...}'


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file of responses: its name and identity, its responses by request digest, and how many rows fit no prompt."""

    name: str
    identity: str
    responses: Mapping[str, str]
    strays: int

    @property
    def label(self) -> str:
        """The name to show."""
        return f"{self.name}@{short(self.identity.removeprefix('recorded:'))}"

    @property
    def note(self) -> str:
        """What is worth knowing of it, or an empty string."""
        return f"{self.strays} row(s) of {self.name} answer no prompt of these suites" if self.strays else ""


def read_recorded(path: Path, measured: Sequence[Measured]) -> Recorded:
    """Return what a file of responses holds for the prompts of these suites.

    Raises:
        UsageError: naming file and line of a row that cannot be used, or when no row answers a prompt of the suites.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="check the file name") from error
    by_id, by_prompt = _keys(measured)
    found: dict[str, str] = {}
    strays = 0
    for number, row in _rows(path.name, data):
        keys = _matches(row, by_id, by_prompt)
        strays += not keys
        for key in keys:
            if found.setdefault(key, row["output"]) != row["output"]:
                raise UsageError(f"{path.name}:{number}: a second, different response to the same item", hint=_HINT)
    if not found:
        names = ", ".join(m.suite.name for m in measured)
        raise UsageError(f"no row of {path.name} answers a prompt of {names}", hint=_HINT)
    return Recorded(path.name, f"recorded:{sha256_hex(data)}", found, strays)


def _keys(measured: Sequence[Measured]) -> tuple[Mapping[tuple[str, str], list[str]], Mapping[str, list[str]]]:
    """Return request digests by (suite, item id), by ("", item id) where one suite has it, and by prompt text."""
    by_id: dict[tuple[str, str], list[str]] = {}
    by_prompt: dict[str, list[str]] = {}
    for one in measured:
        for prompt in one.prompts:
            key = request(prompt, one.suite).digest
            by_id[one.suite.name, prompt.item_id] = [key]
            by_id.setdefault(("", prompt.item_id), []).append(key)
            by_prompt.setdefault(prompt.text, []).append(key)
    return {name: keys for name, keys in by_id.items() if len(keys) == 1}, by_prompt


def _matches(
    row: Mapping[str, str], by_id: Mapping[tuple[str, str], list[str]], by_prompt: Mapping[str, list[str]]
) -> list[str]:
    if row["item_id"]:
        return by_id.get((row["suite"], row["item_id"]), [])
    return by_prompt.get(row["prompt"], [])


def _rows(name: str, data: bytes) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}:{number}: not JSON", hint=_HINT) from error
        usable = isinstance(row, dict) and isinstance(row.get("output"), str)
        if not usable or not any(isinstance(row.get(key), str) and row[key] for key in ("item_id", "prompt")):
            raise UsageError(f"{name}:{number}: this is no recorded response", hint=_HINT)
        known = {key: str(row.get(key) or "") for key in ("suite", "item_id", "prompt", "output")}
        try:
            "".join(known.values()).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{name}:{number}: its text has half a surrogate pair", hint=_HINT) from error
        yield number, known
