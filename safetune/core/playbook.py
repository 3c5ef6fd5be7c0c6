"""The playbook as the machine sees it: what a person asked for, checked and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safetune.core.data_policy import DataPolicy
from safetune.core.digest import JSON, digest
from safetune.core.prompt_design import PromptDesign
from safetune.core.source import Source as Source
from safetune.core.suite import LEAST_SAMPLES, Suite
from safetune.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model to start from.

    `kind` is `embedded` (shipped by a package), `folder`, `gguf` (one file) or `hub` (id plus pinned revision);
    `location` is the name, the absolute path or the hub id.
    """

    kind: str
    location: str
    revision: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a guardrail demands, as rates in [0, 1]. None means: not demanded.

    `at_most` and `at_least` bound the candidate alone; `worse_by_at_most` and `better_by_at_least` bound the paired
    difference to the baseline, in the direction that the metric calls worse or better.
    """

    at_most: float | None = None
    at_least: float | None = None
    worse_by_at_most: float | None = None
    better_by_at_least: float | None = None

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {
            "at_most": self.at_most,
            "at_least": self.at_least,
            "worse_by_at_most": self.worse_by_at_most,
            "better_by_at_least": self.better_by_at_least,
        }


BLOCK, WARN, OBSERVE = "block", "warn", "observe"
SEVERITIES = (BLOCK, WARN, OBSERVE)


@dataclass(frozen=True, slots=True)
class Slices:
    """Which slices of a suite are held against the limits, each on its own.

    Without `names` every slice that there is. The `critical` ones are among them in any case: they block whatever the
    guardrail's severity, and a FAIL of one is marked. `min_samples` is the least number of prompts of a slice.
    """

    names: tuple[str, ...] = ()
    critical: tuple[str, ...] = ()
    min_samples: int = LEAST_SAMPLES

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {"names": sorted(self.names), "critical": sorted(self.critical), "min_samples": self.min_samples}


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One limit (or several) on one metric of one suite, with the reason written by the person who set it.

    `severity` is `block`, `warn` (shown as a warning, never decides) or `observe` (only shown). A `sequential`
    guardrail is tested by an e-process, so that generation may stop as soon as it is decided.
    """

    name: str
    suite: str
    metric: str
    limits: Limits
    why: str
    severity: str = "block"
    confidence: float = 0.95
    min_samples: int = LEAST_SAMPLES
    slices: Slices | None = None
    sequential: bool = False

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters the guardrail digest; the reason is part of it."""
        also: dict[str, JSON] = {"slices": self.slices.identity} if self.slices else {}
        also |= {"sequential": True} if self.sequential else {}
        return {
            "name": self.name,
            "suite": self.suite,
            "metric": self.metric,
            "limits": self.limits.identity,
            "why": self.why,
            "severity": self.severity,
            "confidence": self.confidence,
            "min_samples": self.min_samples,
            **also,
        }


def guardrail_from(identity: object) -> Guardrail:
    """Return the guardrail whose `identity` this is: the way back from a ledger line.

    Raises:
        ValueError: when a field is missing, unknown, or of another type than a guardrail has.
    """
    known = _exactly(identity, Guardrail.__slots__, "a guardrail", optional=("slices", "sequential"))
    limits = _exactly(known["limits"], Limits.__slots__, "its limits")
    words = ("name", "suite", "metric", "why", "severity")
    wrong = [n for n in words if not isinstance(known[n], str)]
    wrong += [n for n in ("confidence", "min_samples") if not _number(known[n])]
    wrong += [n for n, value in limits.items() if not (value is None or _number(value))]
    wrong += ["sequential"] if known.get("sequential", True) is not True else []
    if wrong or not isinstance(known["min_samples"], int):
        raise ValueError(f"wrong type: {', '.join(wrong) or 'min_samples'}")
    slices = _slices_from(known["slices"]) if "slices" in known else None
    return Guardrail(**{**known, "limits": Limits(**limits), "slices": slices})


def _slices_from(identity: object) -> Slices:
    known = _exactly(identity, Slices.__slots__, "its slices")
    names, critical, least = known["names"], known["critical"], known["min_samples"]
    for texts in (names, critical):
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError("wrong type: the names of slices are no list of texts")
    if not _number(least) or not isinstance(least, int):
        raise ValueError("wrong type: min_samples of its slices")
    return Slices(tuple(names), tuple(critical), least)


def _exactly(value: object, names: tuple[str, ...], what: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) | set(optional) != set(names) | set(optional):
        raise ValueError(f"{what} must have exactly the fields {', '.join(names)}")
    return dict(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def guardrails_digest(guardrails: tuple[Guardrail, ...]) -> str:
    """Return the digest of a gate: its guardrails in name order."""
    return digest([g.identity for g in sorted(guardrails, key=lambda g: g.name)])


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter (Hu et al., arXiv:2106.09685). `target_modules` is `all-linear` or a tuple of module names."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("all-linear",)

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests and jobs."""
        return {
            "kind": "lora",
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "target_modules": list(self.target_modules),
        }


@dataclass(frozen=True, slots=True)
class Technique:
    """A named training-time method, its options, and the playbook sources that it reads (with shares)."""

    name: str
    options: Mapping[str, JSON]
    sources: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """How training is launched: processes, an accelerate config file (absolute path or empty), torch threads each."""

    num_processes: int = 1
    config_file: str = ""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Screen:
    """Screening of a stage's rows by the model that the stage starts from.

    `anchors` are the sources of dangerous and of safe rows to compare with, empty where the method needs none. A row is
    flagged that scores above `flag_above`, or that is among the share `flag_top` of highest scores. `action` is
    `report` or `drop`; `max_flagged` is the largest flagged share before the stage is blocked, None: any.
    """

    name: str
    anchors: tuple[str, str] = ("", "")
    options: Mapping[str, JSON] = field(default_factory=dict)
    flag_above: float | None = None
    flag_top: float | None = None
    action: str = "report"
    max_flagged: float | None = None

    @property
    def decides(self) -> bool:
        """Whether it can change what is trained, or stop it; a report cannot."""
        return self.action == "drop" or self.max_flagged is not None

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {
            "name": self.name,
            "anchors": list(self.anchors),
            "options": dict(self.options),
            "flag_above": self.flag_above,
            "flag_top": self.flag_top,
            "action": self.action,
            "max_flagged": self.max_flagged,
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """One training step, its evaluation and its gate. `adapter` None means: all weights are trained.

    `template` names the prompt template that rows are put into, empty for the model's own.
    """

    name: str
    trainer: str
    sources: tuple[tuple[str, float], ...]
    train: Mapping[str, JSON]
    adapter: Adapter | None
    techniques: tuple[Technique, ...]
    gate: tuple[str, ...]
    seed: int
    launch: Launch = Launch()
    template: str = ""
    screen: Screen | None = None


@dataclass(frozen=True, slots=True)
class Sprint:
    """Stages with one objective; `success` names the guardrails that say whether the objective was met."""

    name: str
    objective: str
    success: tuple[str, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class RollbackRule:
    """What happens when a gate does not say PASS.

    `to` is `last-promoted` (the channel stays where the last promotion put it) or `sprint-start` (the channel goes
    back to where it was before this sprint); `then` is `stop` (the candidate is rejected) or `hold` (it is kept
    aside, neither promoted nor rejected).
    """

    on: tuple[Verdict, ...]
    to: str
    then: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """Where a candidate goes that passes its gate.

    `alpha_budget` is the most that all gates of the playbook may spend together: the chance that any of them lets a bad
    checkpoint pass. None leaves it to `core.alpha.allowed`.
    """

    channel: str
    alpha_budget: float | None = None


_NO_GUARDS, _NO_DESIGN = DataPolicy(), PromptDesign()


@dataclass(frozen=True, slots=True)
class Inputs:
    """What goes into training: sources in the order in which guards see them, the policy they are held to, prompts."""

    sources: tuple[Source, ...] = ()
    policy: DataPolicy = _NO_GUARDS
    prompts: PromptDesign = _NO_DESIGN


@dataclass(frozen=True, slots=True)
class Playbook:
    """A whole playbook. `digest` is over the content a person wrote, wherever the file lies."""

    name: str
    purpose: str
    owners: tuple[str, ...]
    model: ModelRef
    inputs: Inputs
    suites: tuple[Suite, ...]
    guardrails: tuple[Guardrail, ...]
    sprints: tuple[Sprint, ...]
    rollback: tuple[RollbackRule, ...]
    promotion: Promotion
    digest: str
    path: str

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources, in the order of the playbook."""
        return self.inputs.sources

    @property
    def channel(self) -> str:
        """The channel that a candidate is promoted to."""
        return self.promotion.channel

    def source(self, name: str) -> Source:
        """Return the source called `name`; the loader has checked that it exists (KeyError otherwise)."""
        return {s.name: s for s in self.sources}[name]

    def gate_of(self, stage: Stage) -> tuple[Guardrail, ...]:
        """Return the guardrails of a stage's gate, in the order the playbook lists them."""
        return tuple(g for g in self.guardrails if g.name in stage.gate)
