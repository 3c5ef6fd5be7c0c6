"""Measure: what two models answered to the same prompts, judged, as one report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from safetune.core.digest import JSON
from safetune.core.errors import SafetuneError
from safetune.core.evidence import BASELINE, CANDIDATE, Cells, EvaluationReport, Item, Judgement, Prompt, SuiteEvidence
from safetune.core.suite import GENERATION, INCOHERENT, LIKELIHOOD, UNJUDGED, Suite
from safetune.engine.asking import Order, Subject, Workplace, answer, forget_remote, forget_stale
from safetune.engine.cards import calibration, own_card
from safetune.engine.evidence_files import Rows
from safetune.engine.foreign_suites import IMPORTED, as_evidence, as_prompts, is_foreign, results_of
from safetune.engine.judging import AnyJudge, Case, Labelled, Respond, is_panel, label_all, label_one, plain
from safetune.engine.judging import respondents as asked_by
from safetune.engine.prompts import OPEN, SEALED, Load, cells, load_prompts
from safetune.engine.respondents import Respondents
from safetune.engine.responses import Request, Responses, ask, request, request_digests
from safetune.plugins import load
from safetune.protocols import Judge
from safetune.state.device import generator

_UNJUDGED, _INCOHERENT = Judgement(UNJUDGED, 0.0), Judgement(INCOHERENT, 0.0)
_LATELY = 256  # pairs of prompt and response whose label is remembered


@dataclass(frozen=True, slots=True)
class Measured:
    """A suite with its prompts read once."""

    suite: Suite
    prompts: Sequence[Prompt]


@runtime_checkable
class Ordered(Protocol):
    """Responses that know the requests of suites in their order: nothing need be looked up for each."""

    def in_order(self, measured: Measured) -> Iterator[tuple[str, str | None]]:
        """Yield the digest of every request of a suite, in its order, and the response to it or None."""
        ...


@dataclass(frozen=True, slots=True)
class Arms:
    """The models of one evaluation: candidate, what it is compared with, and the base model for perplexities."""

    candidate: Subject
    baseline: Subject | None = None
    base: Subject | None = None

    @property
    def asked(self) -> tuple[Subject, ...]:
        """The models that answer the prompts, baseline first."""
        return (self.candidate,) if self.baseline is None else (self.baseline, self.candidate)


@dataclass(frozen=True, slots=True)
class Answers:
    """What both arms answered, by request digest; `baseline` is None where there is none.

    `scores` is what the base model says of the likelihood of responses, by the digest of that request; None where
    there is no base model. `elsewhere` says that they were recorded by somebody else: with what template, nobody here
    has seen.
    """

    candidate: Mapping[str, str]
    baseline: Mapping[str, str] | None = None
    scores: Mapping[str, str] | None = None
    elsewhere: bool = False


class _Found(NamedTuple):
    """A response of one arm, and what it answers: the prompt, and the digest of the request."""

    arm: str
    cells: Cells
    key: str
    output: str

    @property
    def prompt(self) -> Prompt:
        """The prompt."""
        return Prompt(*self.cells)

    @property
    def case(self) -> Case:
        """What a judge is shown."""
        return self.cells[1], self.output, self.cells[4]


def read_suites(suites: Sequence[Suite], *, gate: bool, load_it: Load = load_prompts) -> tuple[Measured, ...]:
    """Read the prompts of every suite before anything heavy starts; only gates get the sealed ones, and no others."""
    return tuple(Measured(s, load_it(s, SEALED if gate else OPEN)) for s in suites)


def needs_base(measured: Sequence[Measured]) -> bool:
    """Say whether any suite holds responses against the base model."""
    return any(m.suite.max_perplexity is not None for m in measured)


def orders(subjects: Sequence[Subject], measured: Sequence[Measured]) -> tuple[Order, ...]:
    """Return what each model is to be asked."""
    wanted = [request(p, m.suite) for m in measured for p in m.prompts]
    return tuple((subject, wanted) for subject in subjects)


def measure(arms: Arms, measured: Sequence[Measured], place: Workplace) -> EvaluationReport:
    """Make what is missing, judge both arms, and return the report.

    Raises:
        RunError: when a worker fails.
    """
    forget_stale(arms.asked, place)
    report = report_of(arms, measure_suites(arms, measured, place))
    forget_remote(arms.asked, place)
    return report


def measure_suites(arms: Arms, measured: Sequence[Measured], place: Workplace) -> tuple[SuiteEvidence, ...]:
    """Make what is missing of suites and judge both arms; what endpoints answered is kept.

    Raises:
        RunError: when a worker fails.
    """
    own = tuple(m for m in measured if not is_foreign(m.suite))
    answer(orders(arms.asked, own), place)
    before = Responses(place.responses, arms.baseline.identity).read() if arms.baseline else None
    found = Answers(Responses(place.responses, arms.candidate.identity).read(), before)
    judged = {suite.suite: suite for suite in judge_suites(own, with_scores(arms, own, found, place), place)}
    judged |= {m.suite.name: _foreign(m.suite, arms, place) for m in measured if is_foreign(m.suite)}
    return tuple(judged[m.suite.name] for m in measured)


def report_of(arms: Arms, suites: Sequence[SuiteEvidence]) -> EvaluationReport:
    """Return what was measured of these models as a report."""
    against = arms.baseline.identity if arms.baseline else ""
    told = dict(_told(arms))
    if arms.candidate.remote and any("chat_template_sha256" in str(s.told.get("serving")) for s in suites):
        told["chat_template"] = "the endpoint's own"  # that of the playbook cannot be sent
    return EvaluationReport(arms.candidate.identity, against, tuple(suites), told)


def _foreign(suite: Suite, arms: Arms, place: Workplace) -> SuiteEvidence:
    """Let another tool ask the models; its own scores are taken as they are, or a judge of ours reads the responses."""
    found = results_of(suite, (arms.candidate, arms.baseline), place)
    if suite.judge.name == IMPORTED:
        return as_evidence(suite, found)
    prompts, answers = as_prompts(suite, found)
    (evidence,) = judge_suites((Measured(suite, prompts),), Answers(answers[CANDIDATE], answers.get(BASELINE)), place)
    return replace(evidence, expected=max(evidence.expected, found[CANDIDATE].expected))


def _told(arms: Arms) -> Mapping[str, str]:
    """Return what answered: this machine's device and libraries, or an address."""
    if not arms.candidate.remote:
        return generator()
    return {name: str(arms.candidate.weights[name]) for name in ("endpoint", "model")}


# -- judging -----------------------------------------------------------------------------------------------------------


def judge_suites(
    measured: Sequence[Measured], answers: Answers, place: Workplace, kept: Respondents | None = None
) -> tuple[SuiteEvidence, ...]:
    """Judge what both arms answered to every suite; the items are in files without a name, gone with the evidence.

    The models that judges ask are `kept` ones, whose answers the caller forgets, or are forgotten with this call.
    """
    respondents = kept or Respondents(place)
    found = tuple(_judge_suite(m, answers, respondents, place.scratch) for m in measured)
    if kept is None:
        respondents.forget()
    return found


def _judge_suite(measured: Measured, answers: Answers, respondents: Respondents, scratch: Path) -> SuiteEvidence:
    """Judge one suite, after the judge has labelled its own controls.

    A response that is not there leaves its item out, and the gate then refuses to pass. A judge that breaks leaves a
    suite without items and with the reason as its error; a model that cannot be asked ends the run, to be run again.
    """
    suite = measured.suite
    judge: AnyJudge = load("judge", suite.judge.name, suite.judge.options)  # type: ignore[assignment]
    try:
        return _Judging(judge, measured, answers, scratch).evidence(respondents)
    except SafetuneError:
        raise
    except Exception as error:  # a judge may be anybody's code, and a broken measurement is an ERROR, not a crash
        why = f"judge {suite.judge.name} broke: {type(error).__name__}: {str(error)[:200]}"
        return _broken(measured, str(getattr(judge, "version", "")), why)


def _broken(measured: Measured, version: str, why: str) -> SuiteEvidence:
    suite, unknown = measured.suite, len(measured.prompts)
    return SuiteEvidence(suite.name, suite.digest, suite.judge.name, version, suite.metrics, unknown, (), error=why)


class _Judging:
    """One judge at one suite. A judged response is written down at once, and nothing of it stays in memory."""

    def __init__(self, judge: AnyJudge, measured: Measured, answers: Answers, folder: Path) -> None:
        self._judge = judge
        self._version = str(getattr(judge, "version", ""))
        self._measured = measured
        self._scores, self._elsewhere = answers.scores, answers.elsewhere
        self._unreadable = _reader() if _needs_prose(judge) and measured.suite.evaluator == GENERATION else None
        self._responses = {CANDIDATE: answers.candidate, BASELINE: answers.baseline or {}}
        self._rows = {arm: Rows(folder) for arm in (CANDIDATE, BASELINE)}
        self._reads = self._unreadable is not None or measured.suite.max_perplexity is not None
        by = f"{judge.name}@{self._version}"
        self._write = {arm: rows.writer(measured.suite.name, arm, by) for arm, rows in self._rows.items()}

    def evidence(self, respondents: Respondents) -> SuiteEvidence:
        suite, limit = self._measured.suite, self._measured.suite.max_perplexity
        if limit is not None and self._scores is None:
            return _broken(self._measured, self._version, "max_perplexity needs the base model to be asked")
        models = tuple(respondents.identity(asked) for asked in asked_by(self._judge))
        card = own_card(suite, self._judge, models)
        readable = _languages(self._judge) | (card.languages() if card else frozenset())
        said = self._judge_all(respondents.ask, readable)
        told: dict[str, JSON] = {"languages": sorted(readable)} if readable else {}
        told |= {"card": card.digest} if card else {}
        known = calibration(self._judge, card)
        told |= {"calibration": dict(known)} if known else {}
        told |= {"slices_are_languages": True} if _slices_are_languages(suite) else {}
        told |= {"sampled": suite.sampling.sample} if suite.sampling.sample else {}
        told |= {"models": list(models)} if models else {}
        told |= {"agreement": asdict(said.agreement)} if said.agreement else {}
        told |= {"serving": suite.decoding.told} if suite.decoding.serving else {}
        told |= {"made": "elsewhere"} if self._elsewhere else {}
        return SuiteEvidence(
            suite=suite.name,
            suite_digest=suite.digest,
            judge=self._judge.name,
            judge_version=self._version,
            metrics=suite.metrics,
            expected=len(self._measured.prompts),
            candidate=self._rows[CANDIDATE],
            baseline=self._rows[BASELINE],
            controls=said.controls,
            controls_failed=said.failed,
            told={**told, **_figures(self._judge, self._rows)},
        )

    def _judge_all(self, respond: Respond, readable: frozenset[str]) -> Labelled:
        """Write down every judged response; return what the judge said of its controls.

        A judge that asks a model needs all cases at once; any other gets one after the other.
        """
        judge = self._judge
        if plain(judge):
            said = label_all(judge, (), respond)
            label = _remembering(judge)
            judged = ((found, label(found.case)) for found in self._found((CANDIDATE, BASELINE)))
        else:
            everything = [found for arm in (CANDIDATE, BASELINE) for found in self._found((arm,))]
            said = label_all(judge, [found.case for found in everything], respond)
            judged = ((found, judgement) for found, judgement in zip(everything, said.judgements, strict=True))
        detect = _detector() if readable else None
        for found, judgement in judged:
            language = detect(found.output)[0] if detect else ""
            fit = not detect or bool(readable & ({language} if language else self._expected(found.prompt, readable)))
            judgement = judgement if fit else _UNJUDGED
            if self._reads and self._is_incoherent(found.prompt, found.output, judgement):
                judgement = _INCOHERENT
            self._write[found.arm](found.cells, found.key, found.output, judgement, language)
        return said

    def _expected(self, prompt: Prompt, readable: frozenset[str]) -> frozenset[str]:
        """Return the languages that a response too short to tell may be in: those of the prompt, where it says so."""
        suite = self._measured.suite
        if suite.prompts.options.get("languages"):
            return frozenset({prompt.slice}) if _slices_are_languages(suite) else frozenset()
        return frozenset(suite.about.languages) or readable

    def _found(self, arms: Sequence[str]) -> Iterator[_Found]:
        """Yield the responses that are there; one prompt of all `arms` after the other."""
        prompts = cells(self._measured.prompts)
        answered = [_in_order(self._responses[arm], self._measured) for arm in arms]
        for cells_of, *answers in zip(prompts, *answered, strict=True):
            for arm, (key, output) in zip(arms, answers, strict=True):
                if output is not None:
                    yield _Found(arm, cells_of, key, output)

    def _is_incoherent(self, prompt: Prompt, output: str, judgement: Judgement) -> bool:
        if self._unreadable and self._unreadable(prompt.text, output):
            return True
        return judgement is not _UNJUDGED and self._unlikely(prompt, output)

    def _unlikely(self, prompt: Prompt, output: str) -> bool:
        """Say whether the base model finds a response less likely than the suite allows."""
        suite = self._measured.suite
        if suite.max_perplexity is None or self._scores is None or not output:
            return False
        found = json.loads(self._scores[_score_request(suite, prompt, output).digest])
        tokens = int(found["tokens"][0])
        return tokens > 0 and math.exp(min(700.0, -found["logprobs"][0] / tokens)) > suite.max_perplexity


def _in_order(responses: Mapping[str, str], measured: Measured) -> Iterator[tuple[str, str | None]]:
    """Yield digest and response, or None, of every request of a suite, in its order."""
    if isinstance(responses, Ordered):
        return responses.in_order(measured)
    digests = map(request_digests(measured.suite), cells(measured.prompts))
    if not responses:
        return repeat(("", None), len(measured.prompts))
    return ((digest.hex(), responses.get(digest.hex())) for digest in digests)


def _remembering(judge: Judge) -> Callable[[Case], Judgement]:
    """Return a judge's labels, that of an equal pair from memory as long as it was seen lately."""
    lately: dict[Case, Judgement] = {}

    def label(case: Case) -> Judgement:
        if case not in lately:
            if len(lately) >= _LATELY:
                lately.clear()
            lately[case] = label_one(judge, case)
        return lately[case]

    return label


def _slices_are_languages(suite: Suite) -> bool:
    return bool(suite.prompts.options.get("languages")) and not suite.attacks


def _detector() -> Callable[[str], tuple[str, float]]:
    """Return what finds the language of a response (ISO 639-1), empty where it cannot be told."""
    return load("detector", "language")  # type: ignore[return-value]


def _needs_prose(judge: AnyJudge) -> bool:
    """Say whether a judge would take text that nobody can read for a good answer: asked models and panels might."""
    return bool(getattr(judge, "needs_prose", bool(asked_by(judge)) or is_panel(judge)))


def _reader() -> Callable[[str, str], str]:
    """Return what says why nobody could read a response to a prompt."""
    reader: Callable[[str, str], str] = load("detector", "coherence")  # type: ignore[assignment]
    return reader


def _languages(judge: AnyJudge) -> frozenset[str]:
    """Return the languages that a judge may judge without a card of the suite's; empty where it reads none at all.

    One that asks a model has shown its controls, which are English, and nothing else.
    """
    own = frozenset(getattr(judge, "languages", ()))
    return own or (frozenset({"en"}) if asked_by(judge) else frozenset())


def _figures(judge: AnyJudge, arms: Mapping[str, Sequence[Item]]) -> Mapping[str, JSON]:
    """Return what a judge makes of all labels of each arm beyond rates, such as a bias score; most make nothing."""
    figures = getattr(judge, "figures", None)
    if figures is None:
        return {}
    return {"figures": {arm: dict(figures([i.label for i in items])) for arm, items in arms.items() if items}}


# -- perplexity under the base model -----------------------------------------------------------------------------------


def with_scores(arms: Arms, measured: Sequence[Measured], found: Answers, place: Workplace) -> Answers:
    """Return answers with what the base model says of every response of a suite that limits perplexity."""
    base = arms.base
    if base is None or base.remote:
        return found
    wanted = [
        _score_request(m.suite, prompt, output)
        for m in measured
        if m.suite.max_perplexity is not None
        for prompt in m.prompts
        for responses in (found.candidate, found.baseline or {})
        if (output := responses.get(request(prompt, m.suite).digest, ""))
    ]
    if not wanted:
        return replace(found, scores={})
    answer([(base, wanted)], place)
    return replace(found, scores=Responses(place.responses, base.identity).read())


def _score_request(suite: Suite, prompt: Prompt, output: str) -> Request:
    """Return the question how likely `output` is as the response to `prompt`."""
    also: dict[str, JSON] = {"kind": LIKELIHOOD, "choices": [output]}
    also |= {"prefill": prompt.prefill} if prompt.prefill else {}
    also |= {} if prompt.system is None else {"system": prompt.system}
    return ask(prompt.text, suite.decoding, also)
