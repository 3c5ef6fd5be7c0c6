"""Write the tables of docs/playbook.md from the schema: `python scripts/playbook_reference.py [--write]`.

Without `--write` it prints them. A test holds the file against the schema, so the reference cannot lag behind.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
SCHEMA = _ROOT / "safetune" / "playbook" / "schema.json"
REFERENCE = _ROOT / "docs" / "playbook.md"
_BLOCK = re.compile(r"(<!-- keys -->\n).*(<!-- /keys -->)", re.DOTALL)


def reference(schema: Mapping[str, Any]) -> str:
    """Return one Markdown table for each kind of mapping in a playbook."""
    return "\n\n".join(_section(title, found, schema) for title, found in _mappings(schema))


def _mappings(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every mapping that has named keys, the whole playbook first, each with the place where it is used."""
    yield "The whole file", schema
    titles = {
        "model": "`model`",
        "data_policy": "`data`",
        "admission": "`admission` of `data`",
        "guard": "Each of `guards` of `data` or of a source",
        "source": "Each of `sources`",
        "prompt_design": "`prompts`, of the playbook",
        "prompt_part": "Each of `parts` of `prompts`",
        "prompt_template": "Each of `templates` of `prompts`",
        "suite": "Each of `suites`, where it is not just a name",
        "prompts": "`prompts` of a suite",
        "rule_probe": "Each of `rules` of `prompts`",
        "engine": "`engine` of `prompts`",
        "metric": "Each of `metrics` of a suite",
        "guardrail": "Each of `guardrails`",
        "slices": "`slices` of a guardrail, where it is a mapping",
        "sprint": "Each of `sprints`",
        "stage": "Each of `stages` of a sprint",
        "adapter": "`adapter` of a stage",
        "technique": "Each of `techniques` of a stage",
        "screen": "`screen` of a stage",
        "launch": "`launch` of a stage",
        "rule": "Each of `rollback`",
    }
    for name, title in titles.items():
        yield title, schema["$defs"][name]
    yield "`promotion`", schema["properties"]["promotion"]


def _section(title: str, found: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    lines = [f"### {title}", "", _sentence(found.get("description", "")), ""]
    if "properties" in found:
        lines += ["| key | needed | value | meaning |", "|---|---|---|---|"]
        required = set(found.get("required", ())) | set(found.get("else", {}).get("required", ()))
        lines += list(_rows("", found["properties"], required, schema))
    return "\n".join(lines).rstrip()


def _rows(prefix: str, properties: Mapping[str, Any], required: set[str], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield one row for each key; keys of a mapping without a section of its own follow it, with a dot."""
    for key, value in properties.items():
        known = _resolved(value, schema)
        meaning = _sentence(value.get("description") or known.get("description", ""))
        yield f"| `{prefix}{key}` | {'yes' if key in required else ''} | {_kind(value, schema)} | {meaning} |"
        if "properties" in value and prefix == "" and key != "promotion":
            yield from _rows(f"{key}.", value["properties"], set(value.get("required", ())), schema)


def _resolved(value: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(value.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = schema["$defs"][name] if name else value
    return found


def _kind(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return what may stand there: the words to choose from, or the type with its range."""
    known = _resolved(value, schema)
    if "enum" in known:
        return " or ".join(f"`{word}`" for word in known["enum"])
    types = known.get("type", "any")
    words = [_word(t, known, schema) for t in (types if isinstance(types, list) else [types])]
    return " or ".join(words) + _range(known)


def _word(kind: str, known: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {_kind(known['items'], schema)}" if "items" in known else "list"
    return {"string": "text", "object": "mapping", "integer": "whole number", "boolean": "true or false"}.get(
        kind, kind
    )


def _range(known: Mapping[str, Any]) -> str:
    low = known.get("minimum", known.get("exclusiveMinimum"))
    if low is None or "maximum" not in known:
        return ""
    return f", {'above ' if 'exclusiveMinimum' in known else ''}{low} to {known['maximum']}"


def _sentence(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split())


def updated(page: str, schema: Mapping[str, Any]) -> str:
    """Return a page with the tables between its markers replaced.

    Raises:
        SystemExit: when it has no markers.
    """
    if not _BLOCK.search(page):
        sys.exit("the page has no <!-- keys --> block")
    return _BLOCK.sub(lambda found: f"{found[1]}\n{reference(schema)}\n\n{found[2]}", page)


if __name__ == "__main__":
    content = json.loads(SCHEMA.read_text())
    if sys.argv[1:] == ["--write"]:
        REFERENCE.write_text(updated(REFERENCE.read_text(), content))
    else:
        print(reference(content))
