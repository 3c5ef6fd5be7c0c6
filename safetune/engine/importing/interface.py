"""What every importer returns, and the steps that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safetune.core.digest import digest
from safetune.core.errors import UsageError
from safetune.core.evidence import Item
from safetune.core.suite import Metric

_SHOWN = 3
_NAME_LENGTH = 120
_SAME = "run the tool on both models with the same tasks, seed and limits"

# Labels of a score that says how right an answer is. Only `correct` counts for a model.
CORRECT, INCORRECT, PARTIAL, NO_ANSWER = "correct", "incorrect", "partial", "no-answer"
ANSWER_LABELS = (CORRECT, INCORRECT, PARTIAL, NO_ANSWER)
# Labels of a 0 or 1 that says whether something is so, without saying which is better.
YES, NO = "yes", "no"
# Labels of a garak detector: it found what it looks for, or not.
HIT, PASSED = "hit", "pass"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chooses where a file leaves a choice; names are columns, empty means the tool's own.

    `scorer` is a scorer, a metric or a detector. `prompt`, `slice` and `cluster` are columns of a row's own data
    (Inspect: metadata; lm-eval: doc). `pass_at` turns a score between 0 and 1 into a label: from there on it counts.
    `expected` is how many items there must be, where the file cannot say it.
    """

    scorer: str = ""
    prompt: str = ""
    slice: str = ""
    cluster: str = ""
    pass_at: float | None = None
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What a results file holds for one suite and one arm.

    `identity` is `<tool>:<sha256 of the file>`. `expected` counts the items that the run was meant to have;
    `incomplete` names those that it has no usable score for, so `expected` is larger than the number of items exactly
    when something is missing. `prompts` maps an item id to the text that was asked; `metrics` are the rates that the
    tool itself would report; `labels` are all labels that its scores can become; `judge` is that of every item; `notes`
    are worth showing.
    """

    tool: str
    version: str
    identity: str
    items: tuple[Item, ...]
    expected: int
    incomplete: tuple[str, ...]
    prompts: Mapping[str, str]
    metrics: tuple[Metric, ...]
    labels: tuple[str, ...]
    judge: str
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every item of the run has a usable score."""
        return not self.incomplete and len(self.items) == self.expected


@dataclass(frozen=True, slots=True)
class Found:
    """One sample as a tool wrote it. `problem` says why it has no usable score, or is empty."""

    item_id: str
    sample: int
    prompt: str
    output: str
    slice: str = ""
    cluster: str = ""
    score: float = 0.0
    label: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        """The item as a person names it."""
        return f"{self.item_id}, sample {self.sample}" if self.sample else self.item_id


@dataclass(frozen=True, slots=True)
class Source:
    """Where found samples come from, and what the items of them are called."""

    file: str
    tool: str
    version: str
    sha256: str
    suite: str
    arm: str
    scorer: str

    @property
    def judge(self) -> str:
        """The name of the judge: `<tool>/<scorer>@<version>`."""
        return f"{self.tool}/{self.scorer}@{self.version}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a format found in a file, before it becomes items."""

    source: Source
    found: Sequence[Found]
    expected: int
    metrics: tuple[Metric, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def assemble(reading: Reading) -> Imported:
    """Return items for all samples with a usable score, and the names of the others.

    Raises:
        UsageError: when two samples are the same item, one prompt id has two texts, or there are more samples than the
            run was meant to have.
    """
    source, items, incomplete = reading.source, [], []
    prompts: dict[str, str] = {}
    seen: set[tuple[str, int]] = set()
    for one in reading.found:
        if (one.item_id, one.sample) in seen:
            raise UsageError(f"{source.file}: item {one.name} is there twice", hint="import the runs one at a time")
        seen.add((one.item_id, one.sample))
        if prompts.setdefault(one.item_id, one.prompt) != one.prompt:
            raise UsageError(f"{source.file}: item {one.item_id} has two different prompts")
        if one.problem:
            incomplete.append(f"{one.name}: {one.problem}")
        else:
            items.append(_item(source, one))
    if len(seen) > reading.expected:
        raise UsageError(
            f"{source.file}: {len(seen)} samples, but the run was meant to have {reading.expected}",
            hint="the file and what it says of itself do not belong together; run the tool again",
        )
    if absent := reading.expected - len(seen):
        incomplete.append(f"{absent} of {reading.expected} samples are not in the file")
    identity = f"{source.tool}:{source.sha256}"
    return Imported(
        tool=source.tool,
        version=source.version,
        identity=identity,
        items=tuple(items),
        expected=reading.expected,
        incomplete=tuple(incomplete),
        prompts=prompts,
        metrics=reading.metrics,
        labels=reading.labels,
        judge=source.judge,
        notes=reading.notes,
    )


def _item(source: Source, one: Found) -> Item:
    return Item(
        item_id=one.item_id,
        suite=source.suite,
        slice=one.slice,
        cluster=one.cluster,
        arm=source.arm,
        sample=one.sample,
        prompt_digest=digest({"prompt": one.prompt}),
        output=one.output,
        judge=source.judge,
        judge_score=min(1.0, max(0.0, one.score)),
        label=one.label,
    )


def choose(wanted: str, offered: Iterable[str], where: str) -> str:
    """Return the scorer to read: the one asked for, or the only one there is.

    Raises:
        UsageError: when it is not there, or when there are several and none was asked for.
    """
    known = sorted(set(offered))
    if strange := [name for name in known if not name.isprintable() or not 0 < len(name) <= _NAME_LENGTH]:
        raise UsageError(f"{where} has a scorer with a name that nobody can write: {strange[0][:_NAME_LENGTH]!r}")
    if not known:
        raise UsageError(f"{where} has no scores", hint="run the tool with its scorer; safetune can judge the outputs")
    if wanted in known:
        return wanted
    if wanted:
        raise UsageError(f'{where} has no scorer "{wanted}"', hint=f"it has: {', '.join(known)}")
    if len(known) > 1:
        raise UsageError(f"{where} has {len(known)} scorers; one must be named", hint=f"it has: {', '.join(known)}")
    return known[0]


def graded(score: float, pass_at: float | None, labels: tuple[str, str]) -> tuple[str, str]:
    """Return (label, problem) of a finite score: `labels` are for a score that counts and one that does not.

    A score of exactly 1 or 0 needs no threshold; anything else is a problem without one, for nothing in a file says
    from where on a score counts.
    """
    if pass_at is not None:
        return (labels[0] if score >= pass_at else labels[1]), ""
    if score in (0.0, 1.0):
        return labels[0 if score else 1], ""
    return "", f"its score {score:g} is neither 0 nor 1 and no threshold was named"


def as_recorded(imported: Imported) -> tuple[Mapping[str, str], ...]:
    """Return the outputs as recorded responses, so that safetune's own judges can label them.

    Only the first sample of a prompt is taken: a recorded response is one answer to one prompt.
    """
    return tuple(
        {"prompt": imported.prompts[item.item_id], "output": item.output} for item in imported.items if item.sample == 0
    )


def check_pair(candidate: Imported, baseline: Imported) -> None:
    """Refuse two files that are not one measurement of two models.

    Raises:
        UsageError: naming what differs: the tool, its version, the judge, the number of samples, or the prompts.
    """
    for name, now, before in (
        ("tools", candidate.tool, baseline.tool),
        ("versions", candidate.version, baseline.version),
        ("judges", candidate.judge, baseline.judge),
    ):
        if now != before:
            raise UsageError(f"candidate and baseline have different {name}: {now} and {before}")
    names = list({**candidate.prompts, **baseline.prompts})
    differ = [n for n in names if candidate.prompts.get(n) != baseline.prompts.get(n)]
    if differ:
        more = ", ..." if len(differ) > _SHOWN else ""
        raise UsageError(
            f"candidate and baseline were not asked the same: {len(differ)} of {len(names)} prompts differ "
            f"({', '.join(differ[:_SHOWN])}{more})",
            hint=_SAME,
        )
    if candidate.expected != baseline.expected:
        raise UsageError(
            f"candidate and baseline have {candidate.expected} and {baseline.expected} samples of the same prompts",
            hint=_SAME,
        )
