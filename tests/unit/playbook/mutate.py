"""Damage a playbook: as text, and as a structure. Everything follows from the given random numbers."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, 1.5, 1e300, -0.0, 10**17, "", " ", "a", "A b", "a\n", "x" * 500, "no", "12:30",
    "all-linear", "train", "block", "sft", "~nobody/x", "http://x.org/a", "../..", "\u202eabc", "a" * 64, "0" * 40,
    [], {}, [[]], [{}], [None], ["a", "a"], ["train"], {"a": 1}, {"name": "rows"}, {"": 0}, [1, True, "1"],
)  # fmt: skip
ODD_KEYS = ("name", "nam", "Name", "x", "sources", "extends", "schema", "revision", "slice", "to", "at_most", "<<", "0")
PIECES = (
    "!!python/object/apply:os.system ['true']", "!t ", "&a ", "<<: *a", "? ", "- ", ": ", "{", "}", "[", "]", "|\n",
    ">-\n", "'", '"', "#", "%TAG ! x\n", "---\n", "...\n", "\t", "\n", "\r", "\0", "\x1b[31m", "\ufeff", "\x85",
    "no", "yes", "~", "null", "1e999", ".nan", "0x1F", "007", "12:30", "2027-01-31", "\\", "\U0001f600", ",", "@", "`",
    "extends: policies/default\n", "extends: playbook.yaml\n",
    "\"\\ud800\"", "'''", "- - - ", "{a: [{b: ", "=", "*", "*a",
    "\u2028",
)  # fmt: skip


def structure(document: Any, r: random.Random, times: int) -> Any:
    """Return a damaged copy of a JSON document."""
    document = copy.deepcopy(document)
    for _ in range(times):
        parents = [node for node in _containers(document) if node]
        if parents:
            _damage(r.choice(parents), r)
    return document


def _containers(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [node, *(c for value in node.values() for c in _containers(value))]
    if isinstance(node, list):
        return [node, *(c for value in node for c in _containers(value))]
    return []


def _damage(parent: Any, r: random.Random) -> None:
    key = r.choice(list(parent)) if isinstance(parent, dict) else r.randrange(len(parent))
    what = r.randrange(6)
    if what == 0:
        del parent[key]
    elif what <= 2:
        parent[key] = copy.deepcopy(r.choice(ODD_VALUES))
    elif what == 3 and isinstance(parent, dict):
        parent[r.choice(ODD_KEYS)] = parent[key] if r.random() < 0.5 else copy.deepcopy(r.choice(ODD_VALUES))
    elif what == 3:
        parent.append(copy.deepcopy(parent[key]))
    elif what == 4:
        parent[key] = [parent[key]] if r.random() < 0.5 else {"name": parent[key]}
    else:
        parent[key] = _near(parent[key], r)


def _near(value: Any, r: random.Random) -> Any:
    """Return a value that is close to the given one."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return r.choice((-value, value * 100, value + 0.5, float(value), int(value)))
    if isinstance(value, str):
        cut = r.randrange(len(value) + 1)
        return r.choice((value[:cut] + value[cut + 1 :], value + r.choice("aZ \n-"), value.upper(), value * 2))
    return value


def text(content: str, r: random.Random, times: int) -> bytes:
    """Return a damaged text, not always UTF-8 any more."""
    for _ in range(times):
        content = _damage_text(content, r)
    data = content.encode("utf-8", "surrogatepass")
    if r.random() < 0.2 and data:
        spot = r.randrange(len(data))
        data = data[:spot] + bytes([r.randrange(256)]) + data[spot + r.randrange(2) :]
    return data


def _damage_text(content: str, r: random.Random) -> str:
    lines = content.split("\n")
    row, spot = r.randrange(len(lines)), r.randrange(len(content) + 1)
    what = r.randrange(8)
    if what == 0:
        del lines[row]
    elif what == 1:
        lines.insert(r.randrange(len(lines)), lines[row])
    elif what == 2:
        lines[row] = " " * r.randrange(9) + lines[row].lstrip()
    elif what == 3:
        other = r.randrange(len(lines))
        lines[row], lines[other] = lines[other], lines[row]
    elif what == 4:
        return content[:spot] + r.choice(PIECES) + content[spot:]
    elif what == 5:
        return content[:spot] + content[spot + r.randrange(1, 30) :]
    elif what == 6:
        return content[:spot] + chr(r.choice((r.randrange(128), r.randrange(0x3000)))) + content[spot + 1 :]
    else:
        return content[:spot] if r.random() < 0.3 else content.replace(r.choice(lines).strip() or ":", r.choice(PIECES))
    return "\n".join(lines)


def damaged(content: str, document: Any, seed: int) -> bytes:
    """Return the damaged playbook number `seed`: half of them damaged as text, half as a structure written as JSON."""
    r = random.Random(seed)
    times = r.choice((1, 1, 1, 2, 3, 8))
    if r.random() < 0.5:
        return text(content, r, times)
    written = json.dumps(structure(document, r, times), ensure_ascii=r.random() < 0.5, indent=r.choice((None, 1)))
    return written.encode("utf-8", "surrogatepass")
