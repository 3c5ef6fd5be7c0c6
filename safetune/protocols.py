"""Every seam of safetune on one page: what a plugin must look like. Plugins are reached by name through `plugins`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from safetune.core.digest import JSON
from safetune.core.evidence import Judgement, Prompt
from safetune.core.source import Source

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
class Text:
    """One text of a row: its `path` (`prompt[0].content`), its `role` (empty where it has none), the text itself."""

    path: str
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class DataRow:
    """One row as guards see it: its id, its place (`line` of `file`, from 1), its texts in order, and its content."""

    id: str
    line: int
    texts: tuple[Text, ...]
    content: Mapping[str, JSON]
    file: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a guard found. `row` is the position in the batch, None for the whole source.

    `path`, `start` and `end` are the span (characters) in one of the row's texts; an empty path means the whole row.
    `label` is what redaction puts in its place, such as `[EMAIL]`; without one a finding cannot be redacted and the row
    is dropped instead. `note` never holds the text that was found.
    """

    row: int | None
    rule: str
    path: str = ""
    start: int = 0
    end: int = 0
    label: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class GuardSetup:
    """What a guard gets before a source's first row: the source, and the prompts of the playbook's suites by name."""

    source: Source
    suites: Mapping[str, Sequence[Prompt]]


class Guard(Protocol):
    """A check on data rows before they may train a model: rows in, findings out; the policy says what they lead to.

    One guard sees all sources of a playbook one after the other, so that it can compare across them. A guard with
    options is made from one mapping of them and raises UsageError for what it does not know.
    Optional: `remembers`, True when what it says of a row depends on rows before it (duplicates): after an
    interruption it is shown those rows again. `across_sources`, True when rows of earlier sources count too: it is
    shown those whose outcome was known already. `plain`, a short description for people.
    """

    name: str
    version: str  # changes whenever a finding could change
    rules: tuple[str, ...]

    def begin(self, setup: GuardSetup) -> None:
        """Get ready for the rows of one source.

        Raises:
            UsageError: when something that the guard needs is not installed or not declared.
        """
        ...

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return what is found in the next rows; never raises on any text."""
        ...

    def end(self) -> Sequence[Found]:
        """Return what can only be said of all rows of the source together."""
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

# Told of the rows that enter the loss: step from 0, numbers, whether they are of a technique's own sources.
Saw = Callable[[int, Iterable[int], bool], None]


@dataclass(frozen=True, slots=True)
class TechniqueSetup:
    """What a technique gets before the first step.

    `model` is the (possibly adapter-wrapped) model at the start of the stage, `tokenizer` its tokenizer, `rows` the
    rows of the technique's own sources by name with their `shares`, `options` the playbook's options, `steps` the
    number of optimizer steps, `seed` the stage's seed. `numbers` are those of the rows, by source in the same order.
    """

    model: object
    tokenizer: object
    rows: Mapping[str, Sequence[Mapping[str, JSON]]]
    shares: Mapping[str, float]
    options: Mapping[str, JSON]
    seed: int
    steps: int
    numbers: Mapping[str, Sequence[int]] = field(default_factory=dict)


class TrainingTechnique(Protocol[LossT_co]):
    """A training-time method that adds a term to the loss of each optimizer step.

    Everything it does must be a function of the setup and the step number, so that a resumed run equals an
    uninterrupted one. With sources of its own it also has `seen`: the numbers of the rows that the last penalty was of.
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

    `adapter` holds LoRA settings or is None for all weights; `callbacks` are transformers callbacks. `numbers` are the
    numbers of the rows, in the same order; every row that enters the loss is told to `saw`, where it is given.
    """

    model: object
    tokenizer: object
    rows: Sequence[Mapping[str, JSON]]
    arguments: Mapping[str, JSON]
    adapter: Mapping[str, JSON] | None
    techniques: Sequence[TrainingTechnique[object]]
    callbacks: Sequence[object]
    numbers: Sequence[int] = ()
    saw: Saw | None = None


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


@dataclass(frozen=True, slots=True)
class ScreenSetup:
    """What a screen gets before the first row: the model at the start of the stage, its tokenizer, the stage's seed.

    `anchors` holds checked rows by kind: `harmful`, harmful requests that were answered, and `safe`, the same requests
    in the same order, refused. Both are empty for a screen that needs none.
    """

    model: object
    tokenizer: object
    anchors: Mapping[str, Sequence[Mapping[str, JSON]]]
    seed: int


class Screen(Protocol):
    """Scores training rows with the model that is to be trained on them: the higher, the more dangerous.

    A screen with options is made from one mapping of them and raises UsageError for what it does not know. Scores of
    different screens, models or versions cannot be compared; only their order within one run means something.
    """

    name: str
    version: str  # changes whenever a score could change
    needs_anchors: bool

    def prepare(self, setup: ScreenSetup) -> None:
        """Get ready; no weight is changed.

        Raises:
            UsageError: when an option, the anchors or the model cannot be used.
        """
        ...

    def score(self, rows: Sequence[Mapping[str, JSON]]) -> Sequence[float]:
        """Return one finite score per checked row, in their order.

        Raises:
            RunError: when a row cannot be scored; a doubtful row never gets a harmless score.
        """
        ...
