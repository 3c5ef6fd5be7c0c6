"""Evidence: one row per item, and what an evaluation adds up to. Every statistic reads only these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.digest import JSON
from safetune.core.suite import Metric

CANDIDATE = "candidate"
BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of one response: a label, and a score in [0, 1] for the judge's positive class."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a suite.

    `reference` is what the judge needs beside the response, such as the expected answer. `choices` are the
    continuations to compare by likelihood. `prefill` opens the assistant's turn; the response is what follows it.
    `system` is this prompt's own system message: None leaves it to the suite, an empty text means an empty message.
    """

    item_id: str
    text: str
    slice: str = ""
    cluster: str = ""
    reference: str = ""
    choices: tuple[str, ...] = ()
    prefill: str = ""
    system: str | None = None


# The fields of a prompt, in order: what is cheaper to have than a prompt where there are many.
Cells = tuple[str, str, str, str, str, tuple[str, ...], str, str | None]


@dataclass(frozen=True, slots=True)
class Item:
    """One judged response.

    `sample` counts repeated responses to one prompt from 0; `language` is the language that was found in the response
    (ISO 639-1), or empty where nobody looked or nothing could be told.
    """

    item_id: str
    suite: str
    slice: str
    cluster: str
    arm: str
    sample: int
    prompt_digest: str
    output: str
    judge: str
    judge_score: float
    label: str
    language: str = ""

    @property
    def row(self) -> Mapping[str, JSON]:
        """The JSONL row of this item."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class SuiteEvidence:
    """All items of one suite for both arms, and whether the instrument can be trusted.

    `expected` is the number of items each arm must have; `controls` are the true labels of the judge's controls that
    were run, `controls_failed` names those that were labelled wrongly (any makes the suite ERROR); `error` is why the
    suite could not be measured, or empty. `told` is what else is worth keeping of the instrument: calibration card,
    languages it may judge, agreement of a panel. The items may be read from a file each time they are gone through.
    """

    suite: str
    suite_digest: str
    judge: str
    judge_version: str
    metrics: tuple[Metric, ...]
    expected: int
    candidate: Sequence[Item]
    baseline: Sequence[Item] = ()
    controls: tuple[str, ...] = ()
    controls_failed: tuple[str, ...] = ()
    error: str = ""
    told: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def controls_run(self) -> int:
        """How many judge controls were run."""
        return len(self.controls)


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What was measured: `subject` and `baseline` are model identities (digests), `baseline` empty when none.

    `generator` is what answered (device kind and library versions); it is empty for recorded responses.
    """

    subject: str
    baseline: str
    suites: tuple[SuiteEvidence, ...]
    generator: Mapping[str, str] = field(default_factory=dict)

    def suite(self, name: str) -> SuiteEvidence | None:
        """Return the evidence of the suite called `name`, or None."""
        return next((s for s in self.suites if s.suite == name), None)
