"""Judging: label many responses with any kind of judge, its controls among them, and ask a model where a judge does.

Nothing here starts or reaches a model: the caller says how a model is asked. Equal pairs of prompt and response are
labelled once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from safetune.core.agreement import Agreement, agreement
from safetune.core.digest import JSON
from safetune.core.evidence import Judgement
from safetune.core.suite import UNJUDGED, Decoding
from safetune.engine.responses import Request, ask
from safetune.protocols import AskingJudge, Control, Judge, PanelJudge, Question, Respondent

AnyJudge = Judge | AskingJudge | PanelJudge
Case = tuple[str, str, str]  # prompt, response, reference
Respond = Callable[[Respondent, Sequence[Request]], Mapping[str, str]]  # answers by request digest; some may lack

_NOT_LABELLED = Judgement(UNJUDGED, 0.0)


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a judge said: one judgement for each case, in order, and what is known of the judge.

    `controls` are the true labels of all controls that were run, `failed` names those that were labelled wrongly (of a
    panel's member as `member/control`). `unreadable` counts distinct pairs that an asked model gave no readable answer
    to, controls included. `agreement` is a panel's, over distinct cases.
    """

    judgements: tuple[Judgement, ...]
    controls: tuple[str, ...]
    failed: tuple[str, ...]
    unreadable: int = 0
    agreement: Agreement | None = None


def is_panel(judge: AnyJudge) -> TypeGuard[PanelJudge]:
    """Say whether several judges label together."""
    return hasattr(judge, "combine")


def asks(judge: AnyJudge) -> TypeGuard[AskingJudge]:
    """Say whether a judge labels by asking a model."""
    return hasattr(judge, "question")


def respondents(judge: AnyJudge) -> tuple[Respondent, ...]:
    """Return the distinct models that a judge asks, none for one that labels by itself."""
    members: Sequence[AnyJudge] = judge.members if is_panel(judge) else (judge,)
    return tuple(dict.fromkeys(member.respondent for member in members if asks(member)))


def plain(judge: AnyJudge) -> TypeGuard[Judge]:
    """Say whether a judge labels each response by itself, without asking anybody."""
    return not is_panel(judge) and not asks(judge)


def label_one(judge: Judge, case: Case) -> Judgement:
    """Label one case.

    Raises:
        ValueError: when the judge gives a score that is no number in [0, 1], or no label.
        Whatever the judge raises.
    """
    judgement = judge.label(*case)
    _check(judgement)
    return judgement


def label_all(judge: AnyJudge, cases: Sequence[Case], respond: Respond) -> Labelled:
    """Label every case, and the judge's controls in the same way.

    A model's answer that is missing or cannot be read gives `unjudged`, never another label.

    Raises:
        ValueError: when a judge gives a score that is no number in [0, 1], or no label.
        Whatever the judge or `respond` raises.
    """
    if is_panel(judge):
        return _panel(judge, cases, respond)
    alone: Judge | AskingJudge = judge  # type: ignore[assignment]
    return _single(alone, cases, alone.controls, respond)


def _single(
    judge: Judge | AskingJudge, cases: Sequence[Case], controls: Sequence[Control], respond: Respond
) -> Labelled:
    known = [(control.prompt, control.response, control.reference) for control in controls]
    distinct = tuple(dict.fromkeys((*cases, *known)))
    found = _asked(judge, distinct, respond) if asks(judge) else {case: judge.label(*case) for case in distinct}  # type: ignore[union-attr]
    for judgement in found.values():
        _check(judgement)
    failed = [c.name for c, case in zip(controls, known, strict=True) if found[case].label != c.label]
    unreadable = sum(judgement is _NOT_LABELLED for judgement in found.values())
    labels = tuple(control.label for control in controls)
    return Labelled(tuple(found[case] for case in cases), labels, tuple(failed), unreadable)


def _asked(judge: AskingJudge, cases: Sequence[Case], respond: Respond) -> Mapping[Case, Judgement]:
    """Ask about every case; equal questions are one request."""
    requests = {case: question_request(judge.question(*case)) for case in cases}
    answers = respond(judge.respondent, tuple({r.digest: r for r in requests.values()}.values()))
    return {case: _read(judge, answers.get(request.digest)) for case, request in requests.items()}


def question_request(question: Question) -> Request:
    """Return a judge's question as a request to a model."""
    also: dict[str, JSON] = {"template": "none"} if question.template == "none" else {}
    if question.system == "":
        also["system"] = ""  # an empty message, not the template's own
    return ask(question.text, Decoding(question.max_new_tokens, question.system or ""), also)


def _read(judge: AskingJudge, answer: str | None) -> Judgement:
    if answer is None:
        return _NOT_LABELLED
    try:
        return judge.read(answer)
    except ValueError:
        return _NOT_LABELLED


def _panel(judge: PanelJudge, cases: Sequence[Case], respond: Respond) -> Labelled:
    """Let every member label the distinct cases, the panel's controls and its own controls, then combine."""
    known = [(control.prompt, control.response, control.reference) for control in judge.controls]
    distinct = tuple(dict.fromkeys((*cases, *known)))
    heard = [_single(member, distinct, member.controls, respond) for member in judge.members]
    said = {case: [one.judgements[n] for one in heard] for n, case in enumerate(distinct)}
    found = {case: judge.combine(judgements) for case, judgements in said.items()}
    for judgement in found.values():
        _check(judgement)
    failed = [c.name for c, case in zip(judge.controls, known, strict=True) if found[case].label != c.label]
    for member, one in zip(_member_names(judge), heard, strict=True):
        failed += [f"{member}/{name}" for name in one.failed]
    labels = [[judgement.label for judgement in said[case]] for case in dict.fromkeys(cases)]
    whole = [row for row in labels if UNJUDGED not in row]
    return Labelled(
        judgements=tuple(found[case] for case in cases),
        controls=(*(control.label for control in judge.controls), *(label for one in heard for label in one.controls)),
        failed=tuple(failed),
        unreadable=sum(one.unreadable for one in heard),
        agreement=agreement(whole, len(heard), len(labels) - len(whole)),
    )


def _member_names(judge: PanelJudge) -> tuple[str, ...]:
    """Return the members' names, numbered where two have the same."""
    names = [member.name for member in judge.members]
    return tuple(name if names.count(name) == 1 else f"{name} {n}" for n, name in enumerate(names, 1))


def _check(judgement: Any) -> None:
    """Refuse what no gate could count."""
    score = judgement.score
    if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise ValueError(f"its score is {score!r}, not a number in [0, 1]")
    if not isinstance(judgement.label, str) or not judgement.label:
        raise ValueError("it gave no label")
