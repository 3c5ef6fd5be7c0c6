"""Texts of a pinned public file that an attack is made of: wrappers or documents."""

from __future__ import annotations

import json
import re

from safetune.builtin.attacks.settings import Settings
from safetune.core.errors import UsageError
from safetune.state.public import locate_public, read_pinned

FILE_OPTIONS = ("public", "sha256", "source", "column", "longest")


def public_texts(given: Settings, longest: int) -> tuple[str, ...]:
    """Return the distinct texts of a public file, in its order, without those of more than `longest` characters.

    Options: `public` and `sha256` (the file and its pin), `source` (where it can be had), `column` (the key of the
    text, where rows are objects), `longest` (another limit). The file is a JSON list, or JSONL when it is called so.

    Raises:
        UsageError: when it is not there or holds no such texts.
        IntegrityError: when it is not the pinned file.
    """
    location, pin, column = given.text("public"), given.text("sha256"), given.text("column", "")
    whose = f"attack {given.attack}"
    if not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise UsageError(f"{whose}: `sha256` must be the SHA-256 of {location}: 64 lower-case hex digits")
    path = locate_public(location, given.text("source", "its public source"), whose)
    content = read_pinned(path, pin, whose)
    try:
        lines = path.suffix == ".jsonl"
        rows = [json.loads(line) for line in content.split("\n") if line.strip()] if lines else json.loads(content)
        found = [row[column] if column else row for row in rows]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{whose}: {path.name} cannot be read: {type(error).__name__}: {error}") from error
    most = given.whole("longest", longest, 1)
    texts = dict.fromkeys(text for text in found if isinstance(text, str) and text.strip() and len(text) <= most)
    if not texts:
        raise UsageError(f"{whose}: {path.name} holds no texts of at most {most} characters; see its `column`")
    return tuple(texts)
