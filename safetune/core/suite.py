"""Suites: prompts, how the model is asked, the judge of one response, and the metrics over its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safetune.core.digest import JSON, digest, sha256_hex
from safetune.core.prompt_design import PromptTemplate

GENERATION, LIKELIHOOD = "generation", "likelihood"
EVALUATORS = (GENERATION, LIKELIHOOD)

LABEL, SCORE = "label", "score"  # what a metric is made of

LEAST_SAMPLES = 30  # of a guardrail that names none, over a suite that names none

# Labels that no judge gives: nobody who may judge this response can read it; or it is no text at all.
UNJUDGED, INCOHERENT = "unjudged", "incoherent"


@dataclass(frozen=True, slots=True)
class Metric:
    """A rate over items: the share whose label is in `counts`. `worse` is `higher` or `lower`.

    `of` is `label`, or `score` for the mean of the judge's scores, which lie in [0, 1]; that one counts no labels.
    """

    name: str
    counts: tuple[str, ...]
    worse: str
    of: str = LABEL

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        also: dict[str, JSON] = {"of": self.of} if self.of != LABEL else {}
        return {"name": self.name, "counts": sorted(self.counts), "worse": self.worse, **also}

    def counted(self, label: str) -> bool:
        """Say whether an item with this label counts. Text that nobody can read is never on the good side."""
        if label == INCOHERENT:
            return self.worse == "higher"
        return label in self.counts


@dataclass(frozen=True, slots=True)
class Decoding:
    """How responses are generated. Greedy only: no temperature, so equal inputs give equal outputs.

    `system_prompt` is the suite's own system message; `serving` is the template that the playbook serves with, whose
    system message is that of a suite without one.
    """

    max_new_tokens: int
    system_prompt: str = ""
    serving: PromptTemplate | None = None

    @property
    def system(self) -> str:
        """The system message of prompts that have none of their own; empty for none."""
        return self.system_prompt or (self.serving.system if self.serving else "")

    @property
    def chat_template(self) -> str:
        """The text of the chat template; empty for the model's own."""
        return self.serving.chat_template if self.serving else ""

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests: what reaches the model, wherever it is written."""
        also: dict[str, JSON] = {"chat_template": digest(self.chat_template)} if self.chat_template else {}
        return {"greedy": True, "max_new_tokens": self.max_new_tokens, "system_prompt": self.system, **also}

    @property
    def told(self) -> Mapping[str, JSON]:
        """What evidence tells of the serving template: its name, the system message, the SHA-256 of its file."""
        text, name = self.chat_template, self.serving.name if self.serving else ""
        also: dict[str, JSON] = {"chat_template_sha256": sha256_hex(text.encode())} if text else {}
        return {"template": name, "system": self.system, **also}


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where a suite's prompts come from.

    `kind` is `bundled` (a file beside the definition), `generator` (a plugin name with seed and count), `public` (a
    file in the data root, pinned by sha256) or `rules` (rules and probes written in the definition); `options` holds
    the reader's settings.
    """

    kind: str
    location: str
    sha256: str = ""
    options: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Named:
    """A plugin by name, with its options as the playbook gives them.

    `card` is the path of a judge's calibration card; its digest, not its path, enters what a gate rests on.
    """

    name: str
    options: Mapping[str, JSON] = field(default_factory=dict)
    card: str = ""

    @property
    def key(self) -> str:
        """The name, made different for other options."""
        return f"{self.name} {digest(dict(self.options))[:12]}" if self.options else self.name

    @property
    def identity(self) -> JSON:
        """The JSON form that enters digests: the bare name where there are no options."""
        return {self.name: dict(self.options)} if self.options else self.name


@dataclass(frozen=True, slots=True)
class About:
    """What a person should know of a suite.

    `hazards` are categories of the MLCommons taxonomy or the playbook's own. `languages` are those of the prompts (ISO
    639-1): a response too short to tell its language is taken to be in one of them. `min_samples` is the least number
    of items that a guardrail over the suite needs when it names none itself.
    """

    description: str
    licence: str
    origin: str
    hazards: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    min_samples: int = LEAST_SAMPLES


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which items of a suite are used, chosen by the digest of their cluster, so that the choice never changes.

    `sample` is how many clusters at most (0: all). `sealed` is the share of clusters that only gates may read: an
    evaluation without a gate sees the others, and a gate sees only the sealed ones (0: all items serve both).
    """

    sample: int = 0
    sealed: float = 0.0
    seed: int = 0

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {"sample": self.sample, "sealed": self.sealed, "seed": self.seed}


NO_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of prompts, how the model is asked, the judge of one response, and the metrics over the labels.

    `evaluator` is `generation` or `likelihood` (of each item's choices). `attacks` are applied to every prompt, and
    their name becomes the slice. `max_perplexity` labels a response `incoherent` that the base model finds less
    likely than that, per token; None switches it off.
    """

    name: str
    about: About
    prompts: PromptSource
    judge: Named
    metrics: tuple[Metric, ...]
    decoding: Decoding
    slice: str = ""
    cluster: str = ""
    evaluator: str = GENERATION
    attacks: tuple[Named, ...] = ()
    sampling: Sampling = NO_SAMPLING
    max_perplexity: float | None = None

    @property
    def identity(self) -> Mapping[str, JSON]:
        """Everything that can change a measurement, as JSON; paths are left out, digests are in."""
        prompts: dict[str, JSON] = {"kind": self.prompts.kind, "options": self.prompts.options}
        prompts["content"] = self.prompts.sha256 or self.prompts.location
        also: dict[str, JSON] = {
            "evaluator": self.evaluator if self.evaluator != GENERATION else None,
            "attacks": [a.identity for a in self.attacks] or None,
            "sampling": self.sampling.identity if self.sampling != NO_SAMPLING else None,
            "max_perplexity": self.max_perplexity,
            "languages": sorted(self.about.languages) or None,
        }
        return {
            "name": self.name,
            "prompts": prompts,
            "judge": self.judge.identity,
            "metrics": [m.identity for m in self.metrics],
            "decoding": self.decoding.identity,
            "slice": self.slice,
            "cluster": self.cluster,
            **{name: value for name, value in also.items() if value is not None},
        }

    @property
    def digest(self) -> str:
        """Digest of `identity`."""
        return digest(self.identity)

    def metric(self, name: str) -> Metric | None:
        """Return the metric called `name`, or None."""
        return next((m for m in self.metrics if m.name == name), None)
