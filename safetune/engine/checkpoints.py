"""Checkpoints as things that can be asked and built upon: a base model and the adapters merged onto it, in order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON, canonical, short
from safetune.core.errors import IntegrityError
from safetune.engine.asking import Subject
from safetune.state.atomic import write_atomic
from safetune.state.files import read_regular
from safetune.state.objects import ObjectStore

_CARD = "checkpoint.json"
_FORMAT = "safetune-checkpoint/1"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a checkpoint is made of: the identity of its base model, and its own and its ancestors' objects.

    `objects` are digests, oldest first. When `full` is set, the first object holds all weights and no base is needed.
    """

    base: str
    objects: tuple[str, ...]
    full: bool


def write_card(folder: Path, kind: str, base: str, parent: str) -> None:
    """Write checkpoint.json into a candidate's folder, so that its digest covers what it was built on."""
    card: dict[str, JSON] = {"format": _FORMAT, "kind": kind, "base": base, "parent": parent}
    write_atomic(folder / _CARD, canonical(card))


def lineage(objects: ObjectStore, checkpoint: str) -> Lineage:
    """Return what a checkpoint rests on, oldest object first.

    Raises:
        IntegrityError: when an object is missing or its card cannot be read.
    """
    chain: list[str] = []
    current = checkpoint
    while True:
        card = _card(objects, current)
        if current in chain:
            raise IntegrityError(f"checkpoint {short(checkpoint)} descends from itself", hint="safetune verify")
        chain.append(current)
        if card["kind"] == "full" or not card["parent"]:
            return Lineage(card["base"], tuple(reversed(chain)), card["kind"] == "full")
        current = card["parent"]


def _card(objects: ObjectStore, checkpoint: str) -> Mapping[str, str]:
    try:
        found = json.loads(read_regular(objects.path(checkpoint) / _CARD))
        return {key: str(found[key]) for key in ("kind", "base", "parent")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"checkpoint {short(checkpoint)} is missing or damaged: {error}", hint="safetune verify"
        ) from error


def verify(objects: ObjectStore, checkpoint: str) -> Lineage:
    """Hash every file that a checkpoint rests on and return its lineage.

    Raises:
        IntegrityError: naming the first file that is not what was recorded.
    """
    found = lineage(objects, checkpoint)
    for name in found.objects:
        objects.verify(name)
    return found


def subject(objects: ObjectStore, checkpoint: str, base_folder: Path) -> Subject:
    """Return a checkpoint as something that can be asked; its objects are verified first."""
    found = verify(objects, checkpoint)
    paths = [str(objects.path(name)) for name in found.objects]
    base, adapters = (paths[0], paths[1:]) if found.full else (str(base_folder), paths)
    weights: dict[str, JSON] = {"base": base, "base_digest": found.base, "adapters": list(adapters)}
    return Subject(short(checkpoint), checkpoint, weights)


def base_subject(label: str, identity: str, folder: Path) -> Subject:
    """Return the base model as something that can be asked."""
    return Subject(label, identity, {"base": str(folder), "base_digest": identity, "adapters": []})
