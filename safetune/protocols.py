"""Every seam of safetune on one page: what a plugin must look like. Plugins are reached by name through `plugins`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from safetune.core.digest import JSON
from safetune.core.evidence import Judgement, Prompt

# -- in the conductor (no ML library may be imported) ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Control:
    """A response whose label is known; every evaluation runs the judge's controls before it trusts the judge."""

    name: str
    prompt: str
    response: str
    label: str
    reference: str = ""


class Judge(Protocol):
    """Labels one response by itself.

    Optional:
    `languages`, a frozenset of ISO 639-1 codes that it has a calibration card for (none: it reads no language);
    `needs_prose`, True when it would take text that nobody can read for a good answer, so that the engine looks for
    such text itself;
    `decided(prompt, partial) -> bool`, which says that no continuation can change the label: generation stops there;
    `figures(labels) -> Mapping[str, float]`, what all labels of an arm add up to beyond rates;
    `by_definition`, True when the label is the outcome itself (a number is the expected one, a string is there), so
    that there is no error to calibrate;
    `card() -> bytes`, the calibration card that ships with it. Without either, and without a card of the suite's, the
    judge can only warn: nobody knows how often it is wrong.

    A judge with options is made from one mapping of them and raises UsageError for what it does not know.
    """

    name: str
    version: str  # changes whenever a label could change
    controls: tuple[Control, ...]

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Label `response` to `prompt`; never raises on any text."""
        ...


@dataclass(frozen=True, slots=True)
class Respondent:
    """A model that a judge asks. `kind` is `endpoint` (OpenAI-compatible), `folder` or `hub`.

    `location` is the address (with /v1), the absolute path or the hub id; `model` the name at an endpoint; `revision`
    the pin on the hub. `key_variable` names the environment variable with the endpoint's key; the key is never stored.
    """

    kind: str
    location: str
    model: str = ""
    revision: str = ""
    key_variable: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge asks its model. `template` is `chat` (a user message) or `none` (the text as it is)."""

    text: str
    max_new_tokens: int
    template: str = "chat"
    system: str | None = None


class AskingJudge(Protocol):
    """Labels one response by asking another model; safetune does the asking, keeps the answers, and can resume.

    `languages` as in `Judge`. Its controls are asked like everything else.
    """

    name: str
    version: str
    controls: tuple[Control, ...]
    respondent: Respondent

    def question(self, prompt: str, response: str, reference: str = "") -> Question:
        """Return what to ask about `response`; never raises on any text."""
        ...

    def read(self, answer: str) -> Judgement:
        """Return what the answer says.

        Raises:
            ValueError: when it is not exactly one of the answers asked for: doubt is not a label.
        """
        ...


class PanelJudge(Protocol):
    """Several judges about one response. `members` label first, each in its own way; `combine` makes one of it."""

    name: str
    version: str
    controls: tuple[Control, ...]
    members: tuple[Judge | AskingJudge, ...]

    def combine(self, said: Sequence[Judgement]) -> Judgement:
        """Return the panel's judgement of what the members said, in their order."""
        ...


class Attack(Protocol):
    """Turns a prompt into one or more variants that try to get round a model's refusal. Pure: no network, no clock.

    An attack with options is made from one mapping of them and raises UsageError for what it does not know.
    """

    name: str
    version: str

    def variants(self, prompt: Prompt) -> tuple[Prompt, ...]:
        """Return the attacked prompts, none when it does not apply.

        Each has an `item_id` that begins with the original's and is its own; `slice` and `cluster` are set by the
        engine (the attack's name; the original item).
        """
        ...


class PromptGenerator(Protocol):
    """Makes prompts from a seed, the same on every machine."""

    name: str
    version: str

    def prompts(self, seed: int, count: int) -> tuple[Prompt, ...]:
        """Return `count` distinct prompts."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of heavy work: a folder that holds job.json, progress.jsonl and, at the end, outcome.json.

    `secrets` names the variables that this job alone may see beside the allow-listed ones, such as an endpoint's key.
    """

    folder: Path
    kind: str
    threads: int = 1
    num_processes: int = 1
    config_file: str = ""
    secrets: tuple[str, ...] = ()


class Launcher(Protocol):
    """Turns a job into a command line; the engine starts it and reads the outcome file."""

    name: str

    def command(self, job: Job) -> tuple[str, ...]:
        """Return the argument vector; it carries no secret."""
        ...

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return the variables to set on top of the allow-listed ones."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing worth showing while work runs. `kind` is a short word, `fields` are its figures."""

    kind: str
    subject: str
    fields: Mapping[str, JSON] = field(default_factory=dict)


Listener = Callable[[Progress], None]

# -- in the worker (may import torch; typed with plain objects so that this page imports none) -------------------------

LossT_co = TypeVar("LossT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class TechniqueSetup:
    """What a technique gets before the first step.

    `model` is the (possibly adapter-wrapped) model at the start of the stage, `tokenizer` its tokenizer, `rows` the
    rows of the technique's own sources by name with their `shares`, `options` the playbook's options, `steps` the
    number of optimizer steps, `seed` the stage's seed.
    """

    model: object
    tokenizer: object
    rows: Mapping[str, Sequence[Mapping[str, JSON]]]
    shares: Mapping[str, float]
    options: Mapping[str, JSON]
    seed: int
    steps: int


class TrainingTechnique(Protocol[LossT_co]):
    """A training-time method that adds a term to the loss of each optimizer step.

    Everything it does must be a function of the setup and the step number, so that a resumed run equals an
    uninterrupted one.
    """

    name: str

    def row_problem(self, row: Mapping[str, JSON]) -> str:
        """Say what keeps a row of the technique's own sources from being used, or return an empty string."""
        ...

    def prepare(self, setup: TechniqueSetup) -> None:
        """Get ready, before any weight has moved.

        Raises:
            UsageError: when an option or a combination cannot work.
        """
        ...

    def penalty(self, model: object, step: int) -> LossT_co:
        """Return the whole term of optimizer step `step` (from 0); the trainer scales it for accumulation."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return figures of the last step to log, by name."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """What a trainer gets: the loaded model and tokenizer, ordered rows, TRL arguments and techniques.

    `adapter` holds LoRA settings or is None for all weights; `callbacks` are transformers callbacks.
    """

    model: object
    tokenizer: object
    rows: Sequence[Mapping[str, JSON]]
    arguments: Mapping[str, JSON]
    adapter: Mapping[str, JSON] | None
    techniques: Sequence[TrainingTechnique[object]]
    callbacks: Sequence[object]


class Trainer(Protocol):
    """Builds a transformers Trainer for a setup; the worker runs it."""

    name: str

    def argument_names(self) -> frozenset[str]:
        """Return the names of all arguments that the trainer's configuration knows."""
        ...

    def row_problem(self, row: Mapping[str, JSON]) -> str:
        """Say what keeps a row from being trained on, or return an empty string."""
        ...

    def build(self, setup: TrainingSetup) -> object:
        """Return a trainer with `train(resume_from_checkpoint=...)` and `save_model(folder)`.

        Raises:
            UsageError: when rows or arguments do not fit.
        """
        ...
