"""The data card of a mixture: what went in, what was kept, dropped and why; and what differs between two cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetune.core.data_policy import ACTIONS, Loosened
from safetune.core.digest import JSON
from safetune.core.guarded import Guarded


@dataclass(frozen=True, slots=True)
class SourceCard:
    """One source of a card: what it says of itself, what became of its rows, what it is used for.

    `uses` are (role, share) pairs. `loosened` is what the source lets pass more easily than the policy does.
    """

    declared: Mapping[str, JSON]
    outcome: Guarded
    uses: tuple[tuple[str, float], ...] = ()
    loosened: tuple[Loosened, ...] = ()

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.outcome.name


@dataclass(frozen=True, slots=True)
class DataCard:
    """What a playbook, or one stage of it, learns from. `about` says which, `mixture` is empty before a run.

    `stage` is the name of the one stage that the card is of, or empty.
    """

    about: str
    sources: tuple[SourceCard, ...]
    policy: Mapping[str, JSON]
    mixture: str = ""
    stage: str = ""

    @property
    def rows(self) -> int:
        """Rows read, of all sources."""
        return sum(source.outcome.rows + source.outcome.bad for source in self.sources)

    @property
    def kept(self) -> int:
        """Rows kept, of all sources."""
        return sum(source.outcome.kept for source in self.sources)

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of all sources, each once."""
        return tuple(sorted({str(source.declared.get("licence", "unknown")) for source in self.sources}))

    @property
    def languages(self) -> tuple[str, ...]:
        """The declared languages of all sources, each once."""
        found = [source.declared.get("languages") for source in self.sources]
        return tuple(sorted({str(code) for codes in found if isinstance(codes, list | tuple) for code in codes}))


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two cards say differently; `source` is empty for the whole, a missing side is None."""

    source: str
    what: str
    before: JSON
    after: JSON


def differences(before: DataCard, after: DataCard) -> tuple[Difference, ...]:
    """Return what changed from one card to another: sources that came or went, then what each says, then the policy.

    Where one card knows no shares at all, shares are not compared.
    """
    uses = all(any(source.uses for source in card.sources) for card in (before, after))
    old, new = ({source.name: source for source in card.sources} for card in (before, after))
    found: list[Difference] = []
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            said: tuple[JSON, JSON] = (_size(old.get(name)), _size(new.get(name)))
            found.append(Difference(name, "source", *said))
            continue
        found += _between(name, _facts(old[name], uses), _facts(new[name], uses))
    return (*found, *_between("", _policy(before.policy), _policy(after.policy)))


def _between(name: str, old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[Difference]:
    keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    return [Difference(name, key, old.get(key), new.get(key)) for key in keys]


def _size(source: SourceCard | None) -> JSON:
    return None if source is None else f"{source.outcome.kept} of {source.outcome.rows + source.outcome.bad} rows"


def _facts(source: SourceCard, with_uses: bool) -> Mapping[str, JSON]:
    outcome = source.outcome
    counts: dict[str, JSON] = {f"found {kind}": count for kind, count in outcome.counts.items()}
    numbers: dict[str, JSON] = {n: getattr(outcome, n) for n in ("rows", "kept", "bad", "flagged")}
    shares: dict[str, list[JSON]] = {}
    for role, share in source.uses if with_uses else ():
        shares.setdefault(f"share as {role}", []).append(share)
    uses: dict[str, JSON] = {what: found[0] if len(found) == 1 else found for what, found in shares.items()}
    milder: dict[str, JSON] = {
        f"loosened {_whole_name(one)}": f"{one.before} to {one.after}" for one in source.loosened
    }
    return {**source.declared, **numbers, "problem": outcome.problem, **uses, **milder, **counts}


def _whole_name(one: Loosened) -> str:
    return f"{one.guard}/{one.rule}" if one.rule else one.guard


def _policy(policy: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Return a policy with a line for each guard, so that a change of one is seen as that."""
    found: dict[str, JSON] = {f"policy {key}": value for key, value in policy.items() if key != "guards"}
    guards = policy.get("guards")
    for guard in guards if isinstance(guards, list | tuple) else ():
        if isinstance(guard, Mapping):
            found[f"policy guard {guard.get('name')}"] = {k: v for k, v in guard.items() if k != "name"}
    return found


def by_severity(counts: Mapping[str, int]) -> Sequence[tuple[str, str, str, int]]:
    """Return findings as (guard, rule, action, count), the most severe first, then the most frequent."""
    rows = []
    for kind, count in counts.items():
        rule, _, action = kind.rpartition("/")
        guard, _, rule = rule.partition("/")
        rows.append((guard, rule, action, count))
    return sorted(rows, key=lambda row: (-ACTIONS.index(row[2]) if row[2] in ACTIONS else 0, -row[3], row[:2]))


def card_json(card: DataCard) -> Mapping[str, JSON]:
    """Return a card as JSON."""
    rows: list[JSON] = []
    for source in card.sources:
        uses: list[JSON] = [{"role": role, "share": share} for role, share in source.uses]
        row: dict[str, JSON] = {"declared": source.declared, "rows": source.outcome.json, "uses": uses}
        rows.append({**row, "loosened": [_loosened_json(one) for one in source.loosened]})
    return {
        "format": "safetune-data-card/1",
        "about": card.about,
        "mixture": card.mixture,
        "stage": card.stage,
        "rows": card.rows,
        "kept": card.kept,
        "licences": list(card.licences),
        "languages": list(card.languages),
        "sources": rows,
        "policy": card.policy,
    }


def _loosened_json(one: Loosened) -> JSON:
    return {"guard": one.guard, "rule": one.rule, "before": one.before, "after": one.after, "still": list(one.still)}
