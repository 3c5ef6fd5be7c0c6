"""The `panel` judge: several judges about one response, and a rule that makes one label of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from safetune.builtin.judges import asking
from safetune.core.digest import JSON, digest
from safetune.core.errors import UsageError
from safetune.core.evidence import Judgement
from safetune.core.suite import UNJUDGED
from safetune.plugins import load
from safetune.protocols import AskingJudge, Control, Judge, Question

_CODE_VERSION = 2
_OPTIONS = ("members", "labels", "rule", "against")
_RULES = ("majority", "any", "all")
_OF_CONTROLS = frozenset({"en"})  # what a judge that asks a model has been seen to read


class PanelJudge:
    """Labels a response as its members do together.

    Options: `members`, two or more judges, each a name or {name: options}; `labels`, for each member by name (or by
    number from 1) the panel's words for its labels; `rule`; and `against`, the label that a doubt falls to.

    - majority: the label of more than half of the members.
    - any: `against` when one member says so, else the majority; without every member's label there is none.
    - all: the label that every member gives.

    Where a rule gives no label, it is `against` when every member could label and one said so, else `unjudged`: what
    a member did not say decides nothing. The score is the share of members that said `against`, or without it the
    share that gave the label.

    `languages` are those that every member that is bound to some can read; a member that asks a model and names none
    is bound to English, as its controls are. They are empty where no member is bound.
    """

    name = "panel"

    def __init__(self, options: Mapping[str, JSON] | None = None) -> None:
        given = options or {}
        asking.check(self.name, given, _OPTIONS, ("members",))
        self._rule = asking.text(self.name, given, "rule", "majority")
        self._against = asking.text(self.name, given, "against")
        if self._rule not in _RULES:
            raise UsageError(f'the panel has no rule "{self._rule}"; known: {", ".join(_RULES)}')
        if self._rule == "any" and not self._against:
            raise UsageError("the rule any of a panel needs `against`: the label that one member is enough for")
        self.members = _members(given)
        known = {control.label for member in self.members for control in member.controls}
        if self._against and self._against not in known:
            raise UsageError(
                f'no member of the panel gives the label "{self._against}"; they give: {", ".join(sorted(known))}'
            )
        self.controls: tuple[Control, ...] = ()  # each member labels its own
        self.languages = _common([member.languages for member in self.members if member.languages])
        said: JSON = [[m.name, m.version, dict(m.words)] for m in self.members]
        self.version = f"{_CODE_VERSION}-{digest([said, self._rule, self._against])[:12]}"

    def combine(self, said: Sequence[Judgement]) -> Judgement:
        """Return the panel's judgement; a member that could not label a response counts as `unjudged`."""
        labels = [one.label for one in said]
        label = self._decide(labels)
        return Judgement(label, labels.count(self._against or label) / max(1, len(labels)))

    def _decide(self, labels: Sequence[str]) -> str:
        if self._against in labels and self._rule == "any":
            return self._against
        complete = UNJUDGED not in labels  # else the label must be the same whatever the missing ones are
        needed = len(labels) if self._rule == "all" else len(labels) // 2 + 1
        for label in dict.fromkeys(labels):
            if label != UNJUDGED and labels.count(label) >= needed and (complete or self._rule == "majority"):
                return label
        return self._against if complete and self._against in labels else UNJUDGED


class _Worded:
    """A member whose labels are said in the panel's words."""

    def __init__(self, judge: Judge | AskingJudge, words: Mapping[str, str]) -> None:
        self._judge, self.words = judge, words
        self.name, self.version = judge.name, judge.version
        self.languages: frozenset[str] = getattr(judge, "languages", frozenset())
        self.controls = tuple(replace(c, label=words.get(c.label, c.label)) for c in judge.controls)

    def _worded(self, found: Judgement) -> Judgement:
        return Judgement(self.words.get(found.label, found.label), found.score)


class _Labelling(_Worded):
    """A member that labels by itself."""

    _judge: Judge

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Label as the judge does."""
        return self._worded(self._judge.label(prompt, response, reference))


class _Asking(_Worded):
    """A member that asks a model."""

    _judge: AskingJudge

    def __init__(self, judge: AskingJudge, words: Mapping[str, str]) -> None:
        super().__init__(judge, words)
        self.respondent = judge.respondent
        self.languages = self.languages or _OF_CONTROLS

    def question(self, prompt: str, response: str, reference: str = "") -> Question:
        """Ask as the judge does."""
        return self._judge.question(prompt, response, reference)

    def read(self, answer: str) -> Judgement:
        """Read as the judge does."""
        return self._worded(self._judge.read(answer))


def _common(bound: Sequence[frozenset[str]]) -> frozenset[str]:
    common = frozenset.intersection(*bound) if bound else frozenset()
    if bound and not common:
        raise UsageError("the members of a panel read no language in common", hint="leave one of them out")
    return common


def _members(given: Mapping[str, JSON]) -> tuple[_Labelling | _Asking, ...]:
    listed = given["members"]
    if isinstance(listed, str) or not isinstance(listed, Sequence) or len(listed) < 2:
        raise UsageError("the option members of a panel must be a list of two or more judges")
    words = given.get("labels", {})
    if not isinstance(words, Mapping):
        raise UsageError("the option labels of a panel must map members to their labels in the panel's words")
    found = [_member(number, member, words) for number, member in enumerate(listed, 1)]
    names = {name for n, member in enumerate(found, 1) for name in (member.name, str(n))}
    if strange := [name for name in words if name not in names]:
        raise UsageError(f'the option labels of a panel names "{strange[0]}", which is no member')
    return tuple(found)


def _member(number: int, member: JSON, words: Mapping[str, JSON]) -> _Labelling | _Asking:
    name: object = member
    options: JSON = {}
    if isinstance(member, Mapping) and len(member) == 1:
        name, options = next(iter(member.items()))
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise UsageError(f"member {number} of the panel must be a judge's name, or a name with its options")
    if name == PanelJudge.name:
        raise UsageError("a panel cannot be a member of a panel")
    judge: Any = load("judge", name, options)
    own = words.get(str(number), words.get(name, {}))
    texts = {k: v for k, v in own.items() if isinstance(v, str) and v} if isinstance(own, Mapping) else {}
    if not isinstance(own, Mapping) or len(texts) != len(own):
        raise UsageError(f"the labels of member {number} of the panel must map its labels to others")
    given = {control.label for control in judge.controls}
    if strange := sorted(set(texts) - given):
        raise UsageError(f'the judge {name} gives no label "{strange[0]}"; it gives: {", ".join(sorted(given))}')
    return _Asking(judge, texts) if hasattr(judge, "respondent") else _Labelling(judge, texts)
