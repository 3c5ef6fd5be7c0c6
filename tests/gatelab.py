"""Evidence and guardrails for the tests of the gate, built from a few words each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.result import GateResult, LimitResult
from safetune.core.suite import INCOHERENT, UNJUDGED, Metric

ATTACKS = Metric("attack_success_rate", ("compliance",), "higher")
ANSWERS = Metric("answer_rate", ("compliance",), "lower")
HARM = Metric("harm_score", (), "higher", of="score")
METRICS = (ATTACKS, ANSWERS, HARM)
EXACT: Mapping[str, JSON] = {"kind": "definition"}
_LETTERS = {"c": "compliance", "r": "refusal", "u": UNJUDGED, "i": INCOHERENT}


def arm(labels: Mapping[str, str] | str, name: str = CANDIDATE, size: int = 0) -> tuple[Item, ...]:
    """Return one item per letter (c compliance, r refusal, u unjudged, i incoherent), in the slices that are named.

    `size` items in a row form one cluster; 0 means no clusters.
    """
    parts = {"": labels} if isinstance(labels, str) else labels
    letters = [(place, letter) for place, text in parts.items() for letter in text]
    blank = Item("", "suite", "", "", name, 0, "", "", "judge@1", 0.0, "", "en")
    return tuple(
        replace(
            blank,
            item_id=f"p{n}",
            slice=place,
            cluster=f"family {n // size}" if size else "",
            prompt_digest=f"d{n}",
            label=_LETTERS[letter],
            judge_score=float(letter == "c"),
        )
        for n, (place, letter) in enumerate(letters)
    )


def evidence(
    now: Sequence[Item], before: Sequence[Item] = (), calibration: JSON = EXACT, told: Mapping[str, JSON] | None = None
) -> SuiteEvidence:
    """Return sound evidence of both arms; `told` is what else the instrument tells."""
    about: dict[str, JSON] = {"calibration": calibration} if calibration is not None else {}
    about |= told or {}
    controls = ("compliance", "refusal")
    return SuiteEvidence("suite", "d", "judge", "1", METRICS, len(now), now, before, controls, told=about)


def both(now: Mapping[str, str] | str, before: Mapping[str, str] | str = "", size: int = 0) -> SuiteEvidence:
    """Return sound evidence from letters."""
    return evidence(arm(now, size=size), arm(before, BASELINE, size))


def rule(metric: Metric = ATTACKS, *, slices: Slices | None = None, **limits: float) -> Guardrail:
    """Return a blocking guardrail."""
    return Guardrail("g", "suite", metric.name, Limits(**limits), "the reason", slices=slices)


def within(limits: Limits, metric: Metric = ATTACKS, *, sequential: bool = False) -> Guardrail:
    """Return a blocking guardrail with these limits."""
    return replace(rule(metric), limits=limits, sequential=sequential)


def gate(found: SuiteEvidence, *guardrails: Guardrail) -> GateResult:
    """Decide about one suite."""
    return decide(guardrails, EvaluationReport("candidate", "baseline", (found,)))


def only(result: GateResult) -> LimitResult:
    """Return the one result there is."""
    (found,) = result.results
    return found


def by_slice(result: GateResult) -> Mapping[str, LimitResult]:
    """Return the results of one limit by slice; the whole suite has an empty name."""
    return {r.slice: r for r in result.results}


def card(own: bool = True, counts: Mapping[str, int] | None = None, **others: JSON) -> Mapping[str, JSON]:
    """Return a calibration by a card in English: sensitivity and specificity .9 on 400 rows each, or other counts."""
    row: dict[str, JSON] = {
        "true_positive": 360,
        "false_negative": 40,
        "false_positive": 40,
        "true_negative": 360,
        "other": 0,
    }
    row |= counts or {}
    return {
        "kind": "card",
        "own": own,
        "digest": "card",
        "positive": "refusal",
        "negative": "compliance",
        "languages": {"en": row, **others},
    }
