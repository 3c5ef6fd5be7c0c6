"""Ways to damage a store: by accident, by hand, and by somebody who makes the chain fit again."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetune.core.digest import canonical, sha256_hex
from safetune.state.chain import GENESIS

Row = dict[str, Any]


def targets(root: Path) -> list[Path]:
    """Return the files that matter: ledger, head, format, pointers, and every file of every object."""
    found = [root / name for name in ("ledger.jsonl", "ledger.head", "format")]
    return [*found, *sorted(p for f in ("refs", "objects") for p in (root / f).rglob("*") if p.is_file())]


def content(root: Path) -> dict[str, bytes]:
    """Return the whole store by name, to see whether anything changed."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = bytes(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b"/"
    return found


def _replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _replace(path, bytes(data))


def _cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    _replace(path, data[: rng.randrange(len(data))])


def _append(path: Path, rng: random.Random) -> None:
    _replace(path, path.read_bytes() + rng.randbytes(rng.randint(1, 40)))


def _garbage(path: Path, rng: random.Random) -> None:
    _replace(path, rng.randbytes(rng.randint(1, 300)))


def _zeros(path: Path, rng: random.Random) -> None:
    _replace(path, bytes(path.stat().st_size))


def _gone(path: Path, rng: random.Random) -> None:
    path.unlink()


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, rng: random.Random) -> None:
    elsewhere = path.with_name(path.name + ".real")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _other(path: Path, rng: random.Random) -> None:
    root = path if (path / "format").exists() else next(p for p in path.parents if (p / "tmp").is_dir())
    data = path.read_bytes()
    others = [p for p in targets(root) if p != path and p.read_bytes() != data]
    _replace(path, rng.choice(others).read_bytes())


def _nested(path: Path, rng: random.Random) -> None:
    _replace(path, b"[" * 200_000 + b"\n")


def _big_number(path: Path, rng: random.Random) -> None:
    _replace(path, b'{"seq":' + b"9" * 10_000 + b"}\n")


def _not_a_number(path: Path, rng: random.Random) -> None:
    _replace(path, path.read_bytes().replace(b"1", b"NaN", 1) + b"NaN\n")


FILES: dict[str, Callable[[Path, random.Random], None]] = {
    "a flipped bit": _flip,
    "cut short": _cut,
    "bytes added": _append,
    "garbage": _garbage,
    "zeros": _zeros,
    "gone": _gone,
    "a folder instead": _folder,
    "a link instead": _link,
    "a named pipe instead": _pipe,
    "the content of another": _other,
    "nested too deep": _nested,
    "a number too big": _big_number,
    "not a number": _not_a_number,
}


def _object(root: Path, rng: random.Random) -> Path:
    return rng.choice(sorted((root / "objects").iterdir()))


def _object_gone(root: Path, rng: random.Random) -> None:
    shutil.rmtree(_object(root, rng))


def _object_renamed(root: Path, rng: random.Random) -> None:
    path = _object(root, rng)
    path.rename(path.with_name("0" * 64))


def _object_grown(root: Path, rng: random.Random) -> None:
    (_object(root, rng) / "more.json").write_text("{}")


def _object_linked(root: Path, rng: random.Random) -> None:
    path = _object(root, rng)
    path.rename(root / "work" / path.name)
    path.symlink_to(root / "work" / path.name)


def _objects_swapped(root: Path, rng: random.Random) -> None:
    one, two = rng.sample(sorted((root / "objects").iterdir()), 2)
    one.rename(root / "aside")
    two.rename(one)
    (root / "aside").rename(two)


def _strange_pointer(root: Path, rng: random.Random) -> None:
    (root / "refs" / "canary").write_text("0" * 64 + "\n")


def _no_objects(root: Path, rng: random.Random) -> None:
    shutil.rmtree(root / "objects")


def _no_pointers(root: Path, rng: random.Random) -> None:
    shutil.rmtree(root / "refs")


STORES: dict[str, Callable[[Path, random.Random], None]] = {
    "an object is gone": _object_gone,
    "an object has another name": _object_renamed,
    "an object has one file more": _object_grown,
    "an object is a link": _object_linked,
    "two objects changed places": _objects_swapped,
    "a pointer of no channel": _strange_pointer,
    "no objects": _no_objects,
    "no pointers": _no_pointers,
}


def rows(root: Path) -> list[Row]:
    """Return the lines of the ledger."""
    return [json.loads(line) for line in (root / "ledger.jsonl").read_bytes().splitlines()]


def forge(root: Path, changed: list[Row]) -> None:
    """Write lines with numbers, links and head that fit: what somebody with access to the store could do."""
    lines, prev = [], GENESIS
    for number, row in enumerate(changed, start=1):
        line = canonical({**row, "seq": number, "prev": prev}) + b"\n"
        lines.append(line)
        prev = sha256_hex(line)
    (root / "ledger.jsonl").write_bytes(b"".join(lines))
    (root / "ledger.head").write_bytes(canonical({"seq": len(changed), "hash": prev}))


def _of(found: list[Row], kind: str, rng: random.Random) -> Row:
    return rng.choice([row for row in found if row["kind"] == kind])


def _verdict(found: list[Row], rng: random.Random) -> None:
    for result in _of(found, "gated", rng)["data"]["results"]:
        result["verdict"] = "FAIL"


def _figures(found: list[Row], rng: random.Random) -> None:
    _of(found, "gated", rng)["data"]["results"][0]["candidate"] = {"events": 1, "n": 400}


def _no_results(found: list[Row], rng: random.Random) -> None:
    _of(found, "gated", rng)["data"]["results"] = []


def _others_evidence(found: list[Row], rng: random.Random) -> None:
    one, two = (row for row in found if row["kind"] == "evaluated")
    one["data"]["evidence"] = two["data"]["evidence"]


def _others_gate(found: list[Row], rng: random.Random) -> None:
    one, two = (row for row in found if row["kind"] == "gated")
    two["data"]["evidence"] = one["data"]["evidence"]


def _other_subject(found: list[Row], rng: random.Random) -> None:
    _of(found, "evaluated", rng)["data"]["subject"] = "0" * 64


def _never_measured(found: list[Row], rng: random.Random) -> None:
    found.remove(_of(found, "evaluated", rng))


def _never_gated(found: list[Row], rng: random.Random) -> None:
    found.remove(_of(found, "gated", rng))


def _other_parent(found: list[Row], rng: random.Random) -> None:
    [row for row in found if row["kind"] == "trained"][1]["data"]["parent"] = ""


def _lines_swapped(found: list[Row], rng: random.Random) -> None:
    # Neighbours that depend on each other; another order of the rest would be a history that could have been.
    at = found.index(_of(found, rng.choice(["gated", "promoted"]), rng))
    found[at], found[at - 1] = found[at - 1], found[at]


def _odd_types(found: list[Row], rng: random.Random) -> None:
    data = rng.choice(found)["data"]
    name = rng.choice(sorted(set(data) - {"figures", "suites"}))
    odd: list[Any] = [None, [], {"a": 1}, 7, True]
    data[name] = rng.choice([value for value in odd if type(value) is not type(data[name])])


def _unknown_kind(found: list[Row], rng: random.Random) -> None:
    rng.choice(found)["kind"] = "forgiven"


def _last_gone(found: list[Row], rng: random.Random) -> None:
    found.pop()


FORGERIES: dict[str, Callable[[list[Row], random.Random], None]] = {
    "a result is FAIL and the verdict PASS": _verdict,
    "figures that the evidence does not hold": _figures,
    "a PASS without results": _no_results,
    "the evidence of another evaluation": _others_evidence,
    "a gate on the evidence of another checkpoint": _others_gate,
    "evidence about another subject": _other_subject,
    "an evaluation is left out": _never_measured,
    "a gate is left out": _never_gated,
    "another parent": _other_parent,
    "two lines changed places": _lines_swapped,
    "fields of another type": _odd_types,
    "an unknown kind": _unknown_kind,
    "the last line is gone, the head too": _last_gone,
}


def damage(root: Path, seed: int) -> str:
    """Damage a store in one way, chosen by `seed`, and return what was done."""
    rng = random.Random(seed)
    ways = [*FILES, *STORES, *FORGERIES]
    way = ways[seed % len(ways)]
    if way in FILES:
        path = rng.choice(targets(root))
        FILES[way](path, rng)
        return f"{path.relative_to(root)}: {way}"
    if way in STORES:
        STORES[way](root, rng)
    else:
        found = rows(root)
        FORGERIES[way](found, rng)
        forge(root, found)
    return way
