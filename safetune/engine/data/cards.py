"""Data cards: of a playbook as it stands, or of a mixture that trained a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from safetune.core.data_card import DataCard, SourceCard
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.events import Event
from safetune.core.guarded import Guarded, guarded_from
from safetune.engine.data.excerpts import excerpt
from safetune.engine.data.mixture import Mixture, Part, read_mixture, rows_of
from safetune.engine.planning import prepare
from safetune.protocols import Listener
from safetune.state.files import open_regular
from safetune.state.objects import ObjectStore
from safetune.state.store import Store

_PLAYBOOKS = (".yaml", ".yml")
_EXAMPLES = 3
_LEAST_DIGITS = 6


def card_of(target: str, store_root: Path, listener: Listener) -> tuple[DataCard, Mapping[str, Sequence[str]]]:
    """Return the card of a playbook, a channel, a checkpoint or a mixture, and excerpts of kept rows by source.

    Raises:
        UsageError: when nothing is called so.
        IntegrityError: when what the ledger names is damaged.
    """
    if target.endswith(_PLAYBOOKS):
        return _of_playbook(Path(target), store_root, listener), {}
    store = Store.open(store_root)
    mixture = read_mixture(store.objects, _mixture_of(target, store))
    return _of_mixture(target, mixture, store.objects), _examples(mixture, store.objects)


def _of_playbook(path: Path, store_root: Path, listener: Listener) -> DataCard:
    prepared = prepare(path, store_root, listener)
    facts, sources = prepared.facts, {source.name: source for source in prepared.playbook.sources}
    cards = [SourceCard(sources[name].declarations, outcome) for name, outcome in facts.guarded.items()]
    return DataCard(prepared.playbook.name, tuple(cards), prepared.playbook.inputs.policy.identity)


def _mixture_of(target: str, store: Store) -> str:
    """Return the mixture that a channel, a checkpoint, or a prefix of a mixture's digest means."""
    events, standing = store.events(), store.standing()
    if target in standing.channels:
        target = standing.channels[target].current
    if len(target) < _LEAST_DIGITS:
        raise UsageError(f"{target} is no channel, and too short for a digest", hint="give 6 digits or more")
    admitted = {event.text("stage_key"): event.text("mixture") for event in events if event.kind == "admitted"}
    found = {m for m in admitted.values() if m and m.startswith(target)}
    found |= {m for e in events if e.kind == "trained" if (m := _of_trained(e, admitted, target))}
    if len(found) != 1:
        why = "names several things" if found else "names no channel, checkpoint or mixture of this store"
        raise UsageError(f"{target} {why}", hint="safetune status shows what there is")
    return found.pop()


def _of_trained(event: Event, admitted: Mapping[str, str], target: str) -> str:
    return admitted.get(event.text("stage_key"), "") if event.text("checkpoint").startswith(target) else ""


def _of_mixture(about: str, mixture: Mixture, objects: ObjectStore) -> DataCard:
    uses: dict[str, list[tuple[str, float]]] = {}
    parts: dict[str, Part] = {}
    for part in mixture.parts:
        uses.setdefault(part.name, []).append((part.role, part.share))
        parts[part.name] = part
    cards = [
        SourceCard(mixture.sources[name], outcome_of(objects, part), tuple(uses[name])) for name, part in parts.items()
    ]
    policy = mixture.content.get("policy")
    return DataCard(about, tuple(cards), policy if isinstance(policy, Mapping) else {}, mixture.digest)


def outcome_of(objects: ObjectStore, part: Part) -> Guarded:
    """Return what became of the rows of a part under the guards, as the store has it.

    Raises:
        IntegrityError: when that cannot be read.
    """
    try:
        with open_regular(objects.path(part.data) / "data.json") as stream:
            return guarded_from(json.loads(stream.read())["guarded"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the data of {part.name} cannot be read: {error}", hint="safetune verify") from error


def _examples(mixture: Mixture, objects: ObjectStore) -> Mapping[str, Sequence[str]]:
    """Return the beginnings of the first kept rows of each source: what a person is shown, after redaction."""
    found: dict[str, list[str]] = {}
    for part in mixture.parts:
        if part.name not in found:
            rows = islice(rows_of(objects, part), _EXAMPLES)
            found[part.name] = [excerpt(content) for _, content in rows]
    return found
