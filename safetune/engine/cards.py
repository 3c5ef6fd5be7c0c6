"""Which calibration card speaks for a judge at a suite, and what it lets a gate know of the judge's error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetune.core.card import Card, model_name, parse
from safetune.core.digest import JSON
from safetune.core.errors import UsageError, reason_of
from safetune.core.judge_error import CARD, DEFINITION
from safetune.core.suite import Suite
from safetune.engine.judging import AnyJudge, plain

_HINT = "safetune judge calibrate"


def own_card(suite: Suite, judge: AnyJudge, models: Sequence[str] | None = None) -> Card | None:
    """Return the card that a suite names for its judge; without `models` any model will do, as nobody has looked yet.

    Raises:
        UsageError: when it cannot be read, has no seal, or is about another judge, version or model, or labels that
            are never given.
    """
    if not suite.judge.card:
        return None
    path = Path(suite.judge.card)
    try:
        card = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        why = reason_of(error)
        raise UsageError(f"suite {suite.name}: card {path.name} cannot be used: {why}", hint=_HINT) from error
    model = card.model if models is None else model_name(models)
    problem = "" if card.sealed else "it is of an older form that has no seal, so anybody could have edited it"
    problem = problem or card.problem(suite.judge.name, str(judge.version), model)
    if problem := problem or card.labels_problem(_labels(judge)):
        raise UsageError(f"suite {suite.name}: card {path.name}: {problem}", hint=_HINT)
    return card


def shipped_card(judge: AnyJudge) -> Card | None:
    """Return the card that comes with a judge, None for one without.

    A judge that asks a model has none: the card would be about that model. Nor has one whose card is about another
    version of it, or cannot be read: it speaks for nothing.
    """
    card = _ships(judge) if plain(judge) else None
    if card is None or card.problem(judge.name, str(judge.version)) or card.labels_problem(_labels(judge)):
        return None
    return card


def _ships(judge: AnyJudge) -> Card | None:
    ships = getattr(judge, "card", None)
    try:
        return None if ships is None else parse(ships())
    except (OSError, ValueError):
        return None


def calibration(judge: AnyJudge, own: Card | None) -> Mapping[str, JSON] | None:
    """Return what a gate may know of a judge's error, as JSON; None where nothing is known, so that it can only warn.

    The suite's own card comes first, then a label that is the outcome itself, then the card that ships with the judge.
    A suite that names a copy of the shipped card has none of its own (ADR 15). Labels are those that the judge gives.
    """
    if own is not None:
        return _told(own, _labels(judge), own=not _copied(own, _ships(judge)))
    if plain(judge) and getattr(judge, "by_definition", False) is True:
        return {"kind": DEFINITION}
    shipped = shipped_card(judge)
    return None if shipped is None else _told(shipped, _labels(judge), own=False)


def _copied(own: Card, shipped: Card | None) -> bool:
    """Say whether two cards are of one labelled set: by its digest, or by counts that do not come twice by chance."""
    if shipped is None:
        return False
    counts = shipped.figures.values()
    return own.labelled == shipped.labelled or any(one in counts for one in own.figures.values())


def _labels(judge: AnyJudge) -> frozenset[str]:
    return frozenset(control.label for one in getattr(judge, "members", (judge,)) for control in one.controls)


def _told(card: Card, given: frozenset[str], *, own: bool) -> Mapping[str, JSON]:
    sides: dict[str, JSON] = {}
    for side, meant in (("positive", card.positive), ("negative", card.negative)):
        found = sorted(label for label in given if card.names.get(label, label) == meant)
        sides[side] = found[0] if len(found) == 1 else list(found)
    figures: dict[str, JSON] = {language: dict(counts.row) for language, counts in sorted(card.figures.items())}
    return {"kind": CARD, "own": own, "digest": card.digest, **sides, "languages": figures}
