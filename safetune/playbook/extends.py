"""Read a playbook together with what it extends, as one document whose values know which file they stand in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.playbook.layers import DATA, join_data, on_shipped
from safetune.playbook.names import name_of
from safetune.playbook.nodes import Node
from safetune.playbook.paths import address_problem, resolve
from safetune.playbook.schema import part_schema, schema, whole_keys
from safetune.playbook.shared import find_part, part_names
from safetune.playbook.strict_yaml import parse, quote
from safetune.playbook.text import Unreadable, read_text
from safetune.playbook.walker import check, describe

# More levels than that are hard to follow for the person who must judge the limits.
MAX_LEVELS = 5

_NAMED_LISTS = ("sources", "suites", "guardrails", "sprints")
_OWN = ("schema", "extends")


def read_whole(path: Path) -> tuple[Node | None, tuple[Diagnostic, ...]]:
    """Return the document with everything it extends, and all mistakes of shape in all files; None when unreadable.

    Below everything lies the data policy that ships with safetune.
    """
    reader = _Reader()
    whole = reader.read(_absolute(path), str(path), ())
    return on_shipped(whole) if whole is not None else None, tuple(reader.problems)


def _absolute(path: Path) -> Path:
    try:
        return Path(os.path.normpath(Path.cwd() / path))
    except OSError:  # the working folder was removed; opening the file says the rest
        return path


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Diagnostic] = []

    def read(self, path: Path, shown: str, children: tuple[Path, ...]) -> Node | None:
        """Read one file and, through it, its parents; `children` are the files that led here."""
        try:
            node, refused = parse(read_text(path, shown))
        except Unreadable as error:
            self.problems.extend(error.diagnostics)
            return None
        self.problems.extend(refused)
        extends = node.get("extends")
        alone = not children and extends is None
        self.problems.extend(check(node, schema() if alone else part_schema()))
        if extends is None or not extends.text:
            return node
        parent = self._parent(extends, (*children, path))
        if parent is None:
            # What is missing may stand in the file that could not be read.
            return None
        whole = merge(node, parent)
        if not children:
            self.problems.extend(_missing(whole))
        return whole

    def _parent(self, extends: Node, children: tuple[Path, ...]) -> Node | None:
        found = address_problem(extends) or _locate(extends)
        if isinstance(found, Path):
            found = _chain_problem(extends, found, children) or found
        if isinstance(found, Diagnostic):
            self.problems.append(found)
            return None
        return self.read(found, "", children)


def _locate(extends: Node) -> Path | Diagnostic:
    """Return the file that `extends` names: a path that ends in .yaml, or a shared part."""
    name, folder = extends.text, extends.place.text.folder
    if name.endswith((".yaml", ".yml")):
        path = resolve(extends)
        if os.path.lexists(path):
            return path
        hint = f"looked for {path}; paths are relative to {extends.place.text.shown}"
        return extends.place.diagnostic("SP401", f"the playbook {quote(name)} does not exist", hint)
    part = find_part(name, folder)
    if part is not None:
        return part
    known = [f"policies/{policy}" for policy in part_names("policies", folder)]
    hint = did_you_mean(name, known) or f"known: {', '.join(known)}; a path ends in .yaml"
    return extends.place.diagnostic("SP401", f"there is no shared part {quote(name)}", hint)


def _chain_problem(extends: Node, parent: Path, children: tuple[Path, ...]) -> Diagnostic | None:
    real = os.path.realpath(parent)
    if real in {os.path.realpath(child) for child in children}:
        chain = " -> ".join(child.name for child in (*children, parent))
        return extends.place.diagnostic(
            "SP402", f"files extend each other in a circle: {chain}", "remove one `extends`"
        )
    if len(children) >= MAX_LEVELS:
        message = f"more than {MAX_LEVELS} files extend one another"
        return extends.place.diagnostic("SP403", message, "join some of them")
    return None


def merge(child: Node, parent: Node) -> Node:
    """Return `child` on top of `parent`: lists of named things are joined by name, the data policy key by key, anything
    else is replaced whole.

    A named thing that the child gives replaces the parent's whole: half a guardrail must not keep the reason of the
    other half.
    """
    members = {key: node for key, node in parent.members.items() if key not in _OWN}
    keys = {key: place for key, place in parent.keys.items() if key not in _OWN}
    for key, node in child.members.items():
        if key in members and key in _NAMED_LISTS:
            node = _join(members[key], node)
        elif key in members and key == DATA:
            node = join_data(members[key], node)
        members[key] = node
        keys[key] = child.key_place(key)
    return replace(child, value=members, keys=keys)


def _join(parent: Node, child: Node) -> Node:
    if not isinstance(parent.value, tuple) or not isinstance(child.value, tuple):
        return child
    items = list(parent.items)
    slots = {name_of(item): n for n, item in enumerate(items)}
    for item in child.items:
        # A name that the child gives twice takes the slot once, so that the second is found as a double.
        slot = slots.pop(name_of(item), None)
        if slot is None:
            items.append(item)
        else:
            items[slot] = item
    return replace(child, value=tuple(items))


def _missing(whole: Node) -> Iterator[Diagnostic]:
    for key in whole_keys():
        if key not in whole.members:
            hint = describe(schema()["properties"][key])
            message = f"the key {quote(key)} is missing, here and in what this file extends"
            yield whole.place.diagnostic("SP202", message, hint)
