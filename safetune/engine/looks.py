"""Looks: a suite whose guardrails may stop early is asked part by part, and no more once they are decided.

What is asked in the end depends on the responses alone: a look is judged when all of it is there, for both models and
all suites that are still asked, one look after the other, whichever response came first. So a killed evaluation goes
on to the same evidence, and so does one whose responses are there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from safetune.core.alpha import Terms
from safetune.core.digest import JSON
from safetune.core.errors import RunError
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.looks import ends, first_look, may_stop, wanting
from safetune.core.playbook import Guardrail
from safetune.core.result import GateResult
from safetune.core.sampling import cluster_key, in_order
from safetune.core.suite import Suite
from safetune.core.verdict import Verdict, worst
from safetune.engine.arriving import Arriving
from safetune.engine.asking import Rounds, Subject, Workplace, answer, asking_jobs, forget_remote, forget_stale
from safetune.engine.foreign_suites import is_foreign
from safetune.engine.jobs import run_jobs
from safetune.engine.judging import plain
from safetune.engine.measure import (
    Answers,
    Arms,
    Measured,
    judge_suites,
    measure,
    measure_suites,
    orders,
    report_of,
    with_scores,
)
from safetune.engine.respondents import Respondents
from safetune.engine.responses import Responses, request
from safetune.plugins import load
from safetune.protocols import Progress
from safetune.state.atomic import machine_errors

_ONCE = Terms()


@dataclass(frozen=True, slots=True)
class Stopping:
    """By what it is told when to stop: the guardrails of the gate, and the terms that it will be decided on."""

    guardrails: tuple[Guardrail, ...]
    terms: Terms = _ONCE


@dataclass(frozen=True, slots=True)
class _Course:
    """A suite that is asked in looks: its prompts in the order of the tests, and how many are asked after each look."""

    measured: Measured
    ends: tuple[int, ...]
    largest: int

    def part(self, look: int) -> Measured:
        """Return the prompts of one look, counted from 0."""
        start = self.ends[look - 1] if look else 0
        return replace(self.measured, prompts=self.measured.prompts[start : self.ends[look]])

    def until(self, looks: int) -> Measured:
        """Return the prompts of the first `looks` looks."""
        return replace(self.measured, prompts=self.measured.prompts[: self.ends[looks - 1]])

    def told(self, evidence: SuiteEvidence) -> SuiteEvidence:
        """Return evidence that says of how much it is the beginning: items, slices, and how large a cluster can be."""
        slices: list[JSON] = [*sorted({prompt.slice for prompt in self.measured.prompts} - {""})]
        planned: dict[str, JSON] = {"planned": self.ends[-1], "largest": self.largest, "slices": slices}
        return replace(evidence, told={**evidence.told, "sequential": planned})


def measure_gate(arms: Arms, measured: Sequence[Measured], place: Workplace, stopping: Stopping) -> EvaluationReport:
    """Measure for a gate: what may stop early is asked until it is decided, everything else in full.

    Raises:
        RunError: when a worker fails.
    """
    courses = _courses(arms, measured, stopping.guardrails)
    if not courses:
        return measure(arms, measured, place)
    forget_stale(arms.asked, place)
    fixed = [m for m in measured if m.suite.name not in courses]
    # What cannot be judged beside other work comes first: the gate must know of all suites before it stops any.
    slow = [m for m in fixed if not _beside(m.suite)]
    looks = _Looks(arms, courses, place, stopping)
    looks.know(measure_suites(arms, slow, place))
    looks.run([m for m in fixed if _beside(m.suite)])
    found = looks.evidence()
    report = report_of(arms, [found[m.suite.name] for m in measured])
    forget_remote(arms.asked, place)
    return report


def first_parts(
    subjects: Sequence[Subject], measured: Sequence[Measured], guardrails: Sequence[Guardrail]
) -> tuple[Measured, ...]:
    """Return what is asked in any case of suites: all of those that cannot stop early, of the others the first look."""
    courses = _courses(Arms(subjects[0]), measured, guardrails)
    return tuple(courses[m.suite.name].part(0) if m.suite.name in courses else m for m in measured)


def _courses(arms: Arms, measured: Sequence[Measured], guardrails: Sequence[Guardrail]) -> dict[str, _Course]:
    parted = [m for m in measured if may_stop(guardrails, m.suite.name) and not is_foreign(m.suite)]
    # Where a worker cannot simply go on, each look starts a model anew.
    doubling = not all(_beside(m.suite) for m in parted) or any(s.remote for s in arms.asked)
    return {m.suite.name: _course(m, first_look(guardrails, m.suite.name), doubling=doubling) for m in parted}


def _course(measured: Measured, first: int, *, doubling: bool) -> _Course:
    sizes = Counter(map(cluster_key, measured.prompts))
    order = {key: number for number, key in enumerate(in_order(sizes))}
    prompts = tuple(sorted(measured.prompts, key=lambda prompt: order[cluster_key(prompt)]))
    cut = ends([sizes[key] for key in order], first, doubling=doubling)
    return _Course(replace(measured, prompts=prompts), cut, max(sizes.values()))


def _beside(suite: Suite) -> bool:
    """Say whether a suite can be judged while its workers go on: nobody else has to be asked."""
    if is_foreign(suite) or suite.max_perplexity is not None:
        return False
    return plain(load("judge", suite.judge.name, suite.judge.options))  # type: ignore[arg-type]


class _Looks:
    """The looks at one pair of models: what is known so far, and what is to be asked next."""

    def __init__(self, arms: Arms, courses: Mapping[str, _Course], place: Workplace, stopping: Stopping) -> None:
        self._arms, self._place, self._stopping = arms, place, stopping
        self._courses = courses
        self._rounds = Rounds(place.scratch / "stopped.json")
        self._respondents = Respondents(place)
        self._known: dict[str, SuiteEvidence] = {}
        self._fixed: Sequence[Measured] = ()
        self._look = 0
        self._looked = dict.fromkeys(courses, 0)  # how many looks at each suite are done
        self._open = frozenset(courses)
        self._arriving: dict[str, Arriving] = {}
        self._waiting: dict[str, set[str]] = {}  # digests of what is missing of this look, by arm

    def know(self, suites: Sequence[SuiteEvidence]) -> None:
        """Take in suites that were measured before, in full."""
        self._known |= {suite.suite: suite for suite in suites}

    def run(self, fixed: Sequence[Measured]) -> None:
        """Ask and judge look by look; suites that are asked in full are part of the first one.

        Raises:
            RunError: when a worker fails, or leaves out what was asked of it.
        """
        self._fixed = fixed
        wanted = self._plan()
        arms = {CANDIDATE: self._arms.candidate, BASELINE: self._arms.baseline}
        responses = {arm: Responses(self._place.responses, s.identity) for arm, s in arms.items() if s}
        self._arriving = {arm: Arriving(found.folder, wanted) for arm, found in responses.items()}
        self._expect()
        self._advance()
        if self._warm() and self._open:
            place = replace(self._place, rounds=self._rounds)
            if jobs := asking_jobs(orders(self._arms.asked, self._left()), place):
                run_jobs(jobs, self._listen)
            self._advance()
        while self._open:
            before = self._look
            answer(orders(self._arms.asked, self._due()), self._place)
            self._advance()
            if self._look == before:
                raise RunError("responses are not where they were written", hint="run the same command again")

    def evidence(self) -> Mapping[str, SuiteEvidence]:
        """Return every suite's evidence; those asked in looks are judged once more, as a whole."""
        parts = [course.until(self._looked[name]) for name, course in self._courses.items()]
        found = self._judged(parts)
        self._respondents.forget()
        self._note_left_out()
        return self._known | {suite.suite: self._courses[suite.suite].told(suite) for suite in found}

    # -- what to ask -------------------------------------------------------------------------------------------------

    def _warm(self) -> bool:
        """Whether workers can be given everything at once and be told to stop."""
        beside = all(_beside(course.measured.suite) for course in self._courses.values())
        return beside and not any(subject.remote for subject in self._arms.asked)

    def _plan(self) -> frozenset[str]:
        """Note the round and the suites of every request; return the digests of all."""
        with machine_errors(f"remove {self._rounds.stopped}"):
            self._rounds.stopped.unlink(missing_ok=True)
        numbers: dict[str, int] = {}
        parts: dict[str, set[str]] = {}
        for name, course in self._courses.items():
            for look in range(len(course.ends)):
                for digest in _digests(course.part(look)):
                    numbers[digest] = min(look + 1, numbers.get(digest, look + 1))
                    parts.setdefault(digest, set()).add(name)
        for measured in self._fixed:
            for digest in _digests(measured):
                numbers[digest], parts[digest] = 0, set()
        kept = {digest: sorted(names) for digest, names in parts.items()}
        self._rounds = replace(self._rounds, numbers=numbers, parts=kept)
        return frozenset(numbers)

    def _due(self) -> list[Measured]:
        """Return what this look is made of."""
        fixed = [] if self._look else list(self._fixed)
        return [*fixed, *(self._courses[name].part(self._look) for name in sorted(self._open))]

    def _left(self) -> list[Measured]:
        """Return all that may still be asked."""
        parts = [
            course.part(look)
            for name, course in self._courses.items()
            if name in self._open
            for look in range(self._look, len(course.ends))
        ]
        return [*([] if self._look else self._fixed), *parts]

    # -- what has come -----------------------------------------------------------------------------------------------

    def _listen(self, progress: Progress) -> None:
        self._place.listener(progress)
        if progress.kind == "generated":
            self._advance()

    def _expect(self) -> None:
        due = {digest for measured in self._due() for digest in _digests(measured)}
        self._waiting = {arm: set(due) for arm in self._arriving}

    def _advance(self) -> None:
        """Judge every look that is whole by now."""
        for arriving in self._arriving.values():
            arriving.refresh()
        while self._open and not self._waits():
            self._judge_look()
            self._expect()

    def _waits(self) -> bool:
        for arm, digests in self._waiting.items():
            self._waiting[arm] = {digest for digest in digests if digest not in self._arriving[arm]}
        return any(self._waiting.values())

    # -- what it says ------------------------------------------------------------------------------------------------

    def _judge_look(self) -> None:
        for evidence in self._judged(self._due()):
            before = self._known.get(evidence.suite)
            whole = evidence if before is None else _joined(before, evidence)
            course = self._courses.get(evidence.suite)
            self._known[evidence.suite] = course.told(whole) if course else whole
        self._look += 1
        self._looked |= dict.fromkeys(self._open, self._look)
        report = report_of(self._arms, tuple(self._known.values()))
        result = decide(self._stopping.guardrails, report, self._stopping.terms)
        wanted = wanting(self._stopping.guardrails, report, result)
        self._open = frozenset(n for n in self._open & wanted if self._look < len(self._courses[n].ends))
        self._rounds.stop([name for name in self._courses if name not in self._open])
        self._note(self._said(result))

    def _judged(self, parts: Sequence[Measured]) -> tuple[SuiteEvidence, ...]:
        answers = Answers(self._arriving[CANDIDATE], self._arriving.get(BASELINE))
        found = with_scores(self._arms, parts, answers, self._place)
        return judge_suites(parts, found, self._place, self._respondents)

    def _said(self, result: GateResult) -> str:
        words: dict[str, str] = {}
        for guardrail in self._stopping.guardrails:
            if guardrail.suite in self._courses:
                verdict = worst(tuple(r.verdict for r in result.results if r.guardrail == guardrail.name))
                undecided = f"undecided (n={len(self._known[guardrail.suite].candidate)})"
                words[guardrail.name] = undecided if verdict is Verdict.INCONCLUSIVE else verdict.value
        first = sorted(words, key=lambda name: not words[name].startswith("undecided"))
        most = max(len(course.ends) for course in self._courses.values())
        return f"look {self._look} of {most}: " + ", ".join(f"{name} {words[name]}" for name in first)

    def _note_left_out(self) -> None:
        for name, course in self._courses.items():
            asked = course.ends[self._looked[name] - 1]
            if asked < course.ends[-1]:
                self._note(f"{name}: {asked} of {course.ends[-1]} prompts were asked, no more are needed")

    def _note(self, text: str) -> None:
        self._place.listener(Progress("note", f"evaluate {self._arms.candidate.label}", {"text": text}))


def _digests(measured: Measured) -> list[str]:
    return [request(prompt, measured.suite).digest for prompt in measured.prompts]


def _joined(before: SuiteEvidence, part: SuiteEvidence) -> SuiteEvidence:
    """Return two parts of a suite as one. What the judge tells of itself is that of the later one."""
    return replace(
        part,
        expected=before.expected + part.expected,
        candidate=(*before.candidate, *part.candidate),
        baseline=(*before.baseline, *part.baseline),
        controls_failed=before.controls_failed or part.controls_failed,
        error=before.error or part.error,
    )
