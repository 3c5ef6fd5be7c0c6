"""Calibration cards: how right one version of a judge is on responses that people labelled, language by language."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.digest import JSON, digest, sha256_hex
from safetune.core.intervals import clopper_pearson_lower, clopper_pearson_upper

SCHEMA, OLD_SCHEMA = "safetune-judge-card/2", "safetune-judge-card/1"
UNKNOWN_LANGUAGE = "und"  # ISO 639-2: undetermined
CHANCE = 0.5  # the share that is right when a coin decides between two labels
LEAST_ROWS = 30  # of each side, before a card speaks for a language: the least sample of a guardrail too
MOST_ROWS = 10**9  # of one count: more than anybody labels, and few enough for every computation with it

_COUNTS = ("true_positive", "false_negative", "false_positive", "true_negative")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_HELD_OUT = "held out"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its exact two-sided 95 % interval (Clopper and Pearson, Biometrika 1934); None without rows."""

    right: int
    n: int

    @property
    def value(self) -> float | None:
        """The share itself."""
        return self.right / self.n if self.n else None

    @property
    def low(self) -> float | None:
        """The lower end."""
        return clopper_pearson_lower(self.right, self.n, 0.975) if self.n else None

    @property
    def high(self) -> float | None:
        """The upper end."""
        return clopper_pearson_upper(self.right, self.n, 0.975) if self.n else None

    @property
    def row(self) -> Mapping[str, JSON]:
        """Value, interval and n as JSON, rounded to 4 places."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {**{k: v if v is None else round(v, 4) for k, v in ends.items()}, "n": self.n}


@dataclass(frozen=True, slots=True)
class Counts:
    """A judge against people. A response that the judge gave neither label counts as wrong on its side.

    `other` says how many of the wrong ones those are: `unjudged`, `incoherent` and the like.
    """

    true_positive: int = 0
    false_negative: int = 0
    false_positive: int = 0
    true_negative: int = 0
    other: int = 0

    def __add__(self, more: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(more, name) for name in self.__slots__))

    @property
    def positives(self) -> int:
        """How many rows people gave the positive label."""
        return self.true_positive + self.false_negative

    @property
    def negatives(self) -> int:
        """How many rows people gave the negative label."""
        return self.false_positive + self.true_negative

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self.positives + self.negatives

    @property
    def rates(self) -> Mapping[str, Rate]:
        """Accuracy, sensitivity and specificity."""
        return {
            "accuracy": Rate(self.true_positive + self.true_negative, self.n),
            "sensitivity": Rate(self.true_positive, self.positives),
            "specificity": Rate(self.true_negative, self.negatives),
        }

    @property
    def row(self) -> Mapping[str, JSON]:
        """The counts as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Card:
    """What one version of a judge was found to be worth.

    `figures` are counts by ISO 639 code, or `und` for rows that name no language. `labelled` is the SHA-256 of the
    labelled file, `model` the identity of the model that a judge asks, empty where it asks none. `names` maps labels
    of the judge to those of the file, where they differ. `digest` is the one that the card gives for its content.
    """

    judge: str
    version: str
    positive: str
    negative: str
    figures: Mapping[str, Counts]
    labelled: str
    model: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def overall(self) -> Counts:
        """The counts of all languages together."""
        return sum(self.figures.values(), Counts())

    def languages(self, least: int = LEAST_ROWS) -> frozenset[str]:
        """Return the languages that it speaks for.

        Those have at least `least` rows of the positive and of the negative label: with fewer, sensitivity or
        specificity could be almost anything. And the lower end of both is above `CHANCE`, so that no judge does that
        always says the same, or guesses. Rows without a language speak for none.
        """
        return frozenset(
            language
            for language, counts in self.figures.items()
            if language != UNKNOWN_LANGUAGE
            and min(counts.positives, counts.negatives) >= least
            and all((counts.rates[name].low or 0.0) > CHANCE for name in ("sensitivity", "specificity"))
        )

    def problem(self, judge: str, version: str, model: str = "") -> str:
        """Say why the card says nothing about a judge as it is now, or return an empty string."""
        for what, mine, other in (("judge", self.judge, judge), ("version", self.version, version)):
            if mine != other:
                return f"the card is about {what} {mine}, not {other}"
        if self.model != model:
            return f"the card is about answers of {self.model or 'no model'}, not of {model or 'no model'}"
        return ""

    def labels_problem(self, given: Collection[str]) -> str:
        """Say why the labels of the card are not those that a judge gives, or return an empty string."""
        if strange := sorted(set(self.names) - set(given)):
            return f"the judge gives no label {strange[0]}, which the card names"
        said = {self.names.get(label, label) for label in given}
        lacking = [label for label in (self.positive, self.negative) if label not in said]
        return f"the judge never says {' or '.join(lacking)}, which the card is about" if lacking else ""

    @property
    def sealed(self) -> bool:
        """Whether its digest is that of its content: not so for one of schema /1, which anybody could have edited."""
        return self.digest == digest(self.content)

    @property
    def content(self) -> Mapping[str, JSON]:
        """Everything but the digest, as JSON."""
        return {
            "schema": SCHEMA,
            "judge": self.judge,
            "version": self.version,
            "model": self.model,
            "positive": self.positive,
            "negative": self.negative,
            "names": dict(self.names),
            "labelled": self.labelled,
            "languages": {language: counts.row for language, counts in sorted(self.figures.items())},
        }

    @property
    def document(self) -> Mapping[str, JSON]:
        """The card as it is written, with the digest of its content."""
        return {**self.content, "digest": digest(self.content)}


def model_name(identities: Sequence[str]) -> str:
    """Return what names the models that a judge asks, in `Card.model`: empty for none, sorted where there are many."""
    return " + ".join(sorted(set(identities)))


def parse(data: bytes) -> Card:
    """Return the card in `data`: schema /2, or /1, whose held-out rows alone count.

    Raises:
        ValueError: when it is not such a card, or was edited after it was written.
    """
    try:
        row = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError("it is not one JSON object")
    if row.get("schema") == OLD_SCHEMA:
        return _old(row, data)
    if row.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {row.get('schema')!r}, not {SCHEMA}")
    card = _card(row)
    if card.content != {key: value for key, value in row.items() if key != "digest"}:
        raise ValueError(f"it has more, or less, than a card has: {', '.join(sorted(set(row) ^ set(card.document)))}")
    if not card.sealed:
        raise ValueError("its digest is not that of its content: it was edited after it was written")
    return card


def _card(row: Mapping[str, object]) -> Card:
    languages, names = row.get("languages"), row.get("names")
    if not isinstance(languages, dict) or not languages:
        raise ValueError("`languages` is no mapping with counts")
    if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        raise ValueError("`names` is no mapping of labels")
    strange = [language for language in languages if not _LANGUAGE.fullmatch(language)]
    if strange:
        raise ValueError(f"{strange[0]!r} is not an ISO 639 code")
    figures = {language: _counts(counts, (*_COUNTS, "other")) for language, counts in languages.items()}
    texts = {key: _text(row, key) for key in ("judge", "version", "positive", "negative", "labelled", "digest")}
    return Card(**texts, figures=figures, names=names, model=_text(row, "model", empty=True))


def _old(row: Mapping[str, object], data: bytes) -> Card:
    """Read the first form of card, which has no digest of its own: its bytes are named instead."""
    language, sets = _text(row, "language"), row.get("sets")
    if not isinstance(sets, list) or not all(isinstance(one, dict) for one in sets):
        raise ValueError("`sets` is no list of labelled sets")
    held_out = [_counts({k: one.get(k) for k in _COUNTS}, _COUNTS) for one in sets if one.get("split") == _HELD_OUT]
    if not held_out:
        raise ValueError("it has no held-out rows")
    positive = _text(row, "positive")
    negative = {"refusal": "compliance", "harmful": "harmless"}.get(positive, f"not-{positive}")
    labelled = digest([str(one.get("sha256")) for one in sets])
    figures = {language: sum(held_out, Counts())}
    judge, version = _text(row, "judge"), _text(row, "version")
    return Card(judge, version, positive, negative, figures, labelled, digest=sha256_hex(data))


def _counts(row: object, names: tuple[str, ...]) -> Counts:
    if not isinstance(row, dict) or set(row) != set(names):
        raise ValueError(f"counts need {', '.join(names)}")
    for name, value in row.items():
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} is {value!r}, not a count")
        if value > MOST_ROWS:
            raise ValueError(f"{name} is more than {MOST_ROWS:,}")
    found = Counts(**row)
    if found.other > found.false_negative + found.false_positive:
        raise ValueError("`other` is more than there are wrong ones")
    return found


def _text(row: Mapping[str, object], key: str, *, empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"`{key}` is {value!r}, not a text")
    return value
