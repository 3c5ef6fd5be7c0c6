"""Data cards: of a playbook as it stands, or of a mixture that trained a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from safetune.core.data_card import DataCard, SourceCard
from safetune.core.data_policy import ACTIONS, GuardSettings, loosened
from safetune.core.digest import JSON
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.events import Event
from safetune.core.guarded import Guarded, guarded_from
from safetune.core.source import Source
from safetune.engine.data.declared import declared
from safetune.engine.data.excerpts import excerpt
from safetune.engine.data.mixture import Mixture, Part, read_mixture, rows_of, wanted_by
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
    if _is_playbook(target):
        return _of_playbook(Path(target), store_root, listener), {}
    store = Store.open(store_root)
    mixture = read_mixture(store.objects, _mixture_of(target, store))
    return _of_mixture(target, mixture, store.objects), _examples(mixture, store.objects)


def pair_of(target: str, against: str, store_root: Path, listener: Listener) -> tuple[DataCard, DataCard]:
    """Return two cards to compare. A checkpoint is of one stage: a playbook is then asked for that stage alone.

    Raises:
        UsageError: when nothing is called so.
        IntegrityError: when what the ledger names is damaged.
    """
    stages = ["", ""]
    cards: list[DataCard | None] = [None, None]
    for n, name in enumerate((target, against)):
        if not _is_playbook(name):
            card = card_of(name, store_root, listener)[0]
            cards[n], stages[1 - n] = card, card.stage
    first, second = (
        card or _of_playbook(Path(name), store_root, listener, stage)
        for card, name, stage in zip(cards, (target, against), stages, strict=True)
    )
    return first, second


def _is_playbook(target: str) -> bool:
    return target.endswith(_PLAYBOOKS)


def _of_playbook(path: Path, store_root: Path, listener: Listener, stage: str = "") -> DataCard:
    """Return the card of a playbook, or of its stages of one name; of all of them where none is called so."""
    prepared = prepare(path, store_root, listener)
    playbook = prepared.playbook
    stages = [one for sprint in playbook.sprints for one in sprint.stages]
    chosen = [one for one in stages if one.name == stage]
    uses: dict[str, dict[tuple[str, float], None]] = {}
    for one in chosen or stages:
        for name, role, share in wanted_by(one):
            uses.setdefault(name, {})[role, share] = None
    policy, sources = playbook.inputs.policy, {source.name: source for source in playbook.sources}
    cards = [
        SourceCard(_said(sources[name]), outcome, tuple(uses[name]), policy.loosened_for(sources[name].guards))
        for name, outcome in prepared.facts.guarded.items()
        if name in uses
    ]
    return DataCard(playbook.name, tuple(cards), policy.identity, stage=stage if chosen else "")


def _said(source: Source) -> Mapping[str, JSON]:
    """Return all that is declared of a source; what only the playbook says, where its record cannot be read."""
    try:
        return declared(source).declarations
    except (UsageError, IntegrityError):  # the outcome of its guards says why
        return source.declarations


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
    said = mixture.content.get("policy")
    policy: Mapping[str, JSON] = said if isinstance(said, Mapping) else {}
    cards = []
    for name, part in parts.items():
        outcome, own = _outcome_and_guards(objects, part)
        milder = loosened(_settings(policy), own)
        cards.append(SourceCard(mixture.sources[name], outcome, tuple(uses[name]), milder))
    return DataCard(about, tuple(cards), policy, mixture.digest, str(mixture.content.get("stage", "")))


def outcome_of(objects: ObjectStore, part: Part) -> Guarded:
    """Return what became of the rows of a part under the guards, as the store has it.

    Raises:
        IntegrityError: when that cannot be read.
    """
    return _outcome_and_guards(objects, part)[0]


def _outcome_and_guards(objects: ObjectStore, part: Part) -> tuple[Guarded, Sequence[GuardSettings]]:
    """Return what became of the rows of a part, and the settings of the guards that looked at them."""
    try:
        with open_regular(objects.path(part.data) / "data.json") as stream:
            content = json.loads(stream.read())
        return guarded_from(content["guarded"]), _settings(content.get("policy", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"the data of {part.name} cannot be read: {error}", hint="safetune verify") from error


def _settings(policy: Mapping[str, Any]) -> Sequence[GuardSettings]:
    """Return the guards of a data policy from its JSON form; options play no part in how severe it is."""
    guards = policy.get("guards", ())
    found = [GuardSettings(row["name"], row["action"], dict(row.get("rules", {}))) for row in guards]
    if any(action not in ACTIONS for guard in found for action in (guard.action, *guard.rules.values())):
        raise ValueError("a guard with an action that is none")
    return found


def _examples(mixture: Mixture, objects: ObjectStore) -> Mapping[str, Sequence[str]]:
    """Return the beginnings of the first kept rows of each source: what a person is shown, after redaction."""
    found: dict[str, list[str]] = {}
    for part in mixture.parts:
        if part.name not in found:
            rows = islice(rows_of(objects, part), _EXAMPLES)
            found[part.name] = [excerpt(content) for _, content in rows]
    return found
