"""The pin of a source for a person: what was found, and an entry of `sources` with what is still to be declared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from safetune.core.digest import JSON
from safetune.core.pinned import Pinned
from safetune.report.untrusted import render_untrusted

_SENTENCE = 300
_UNPLAIN = re.compile(r"[^\x20-\x7e]")
_STILL: Mapping[str, str] = {
    "licence": "an SPDX expression, such as CC-BY-4.0",
    "consent": "who agreed to this use, and where that is written; or `basis`",
    "origin": "where the rows come from",
    "publisher": "who gives them out",
}


def pin_lines(pin: Pinned) -> list[str]:
    """Return what was found as comments, and the entry as YAML below them: the whole may stand in a playbook."""
    found = f"{pin.rows} rows in {_count(pin.files, 'file')}, {pin.size} bytes"
    lines = [f"# {found}"]
    if pin.bad or pin.first_bad:
        rows = f"{_count(pin.bad, 'row')} cannot be used, the first: " if pin.bad else "no row can be used: "
        lines.append(f"# {rows}{render_untrusted(pin.first_bad, _SENTENCE)}")
    if pin.dvc:
        lines.append(f"# compared with md5 {render_untrusted(pin.dvc, 40)}, which DVC pins")
    return [*lines, "sources:", *_entry(pin)]


def pin_json(pin: Pinned) -> dict[str, JSON]:
    """Return the pin as it is printed with --json."""
    return {
        "uri": pin.uri,
        "format": pin.kind,
        "sha256": pin.sha256,
        "rows": pin.rows,
        "bad_rows": pin.bad,
        "first_bad": pin.first_bad,
        "bytes": pin.size,
        "files": pin.files,
        "revision": pin.revision,
        "columns": dict(pin.columns),
        "declared": dict(pin.declared),
        "dvc": pin.dvc,
    }


def _entry(pin: Pinned) -> list[str]:
    lines = [
        f"  - name: {_name(pin.uri)}",
        f"    uri: {_quoted(pin.uri)}",
        f"    sha256: {_quoted(pin.sha256)}",
        f"    format: {pin.kind}",
    ]
    if pin.revision:
        lines.append(f"    revision: {_quoted(pin.revision)}")
    if pin.columns:
        lines.append(f"    columns: {_quoted(dict(pin.columns))}")
    for key, what in _STILL.items():
        said = pin.declared.get(key, "")
        lines.append(f"    {key}: {_quoted(said)}" + ("" if said else f"  # {what}"))
    lines += [f"    {key}: {_quoted(said)}" for key, said in pin.declared.items() if key not in _STILL]
    return [*lines, "    use: [train]  # or evaluate, or both"]


def _quoted(value: JSON) -> str:
    """Return a value as JSON, which is YAML too, in ASCII: nothing in it is hidden."""
    # YAML has no surrogate pairs, so characters beyond U+FFFF are written in its own way.
    return _UNPLAIN.sub(_escape, json.dumps(value, default=list, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


def _name(uri: str) -> str:
    """Return a name for the source: the last part of its uri in small letters."""
    last = PurePosixPath(uri.partition("#")[2] or uri.partition(":")[2] or uri).name.lower()
    stem = re.sub(r"\.(jsonl|csv|parquet|dvc)\b", "", last)
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40] or "rows"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
