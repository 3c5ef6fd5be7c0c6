"""What may enter training: which sources are admitted, which guards look at each row, and what a finding leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.digest import JSON

OFF, FLAG, REDACT, DROP, BLOCK = "off", "flag", "redact", "drop", "block"
# From mild to severe; of several findings in a row the most severe decides what becomes of it.
ACTIONS = (OFF, FLAG, REDACT, DROP, BLOCK)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """One guard by name: what its findings lead to, other actions for single rules, and its options.

    `rules` maps a rule (`email`) to an action of its own. An option is a threshold or a switch of the guard itself.
    """

    name: str
    action: str = FLAG
    rules: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, JSON] = field(default_factory=dict)

    def action_of(self, rule: str) -> str:
        """Return the action that a finding of `rule` leads to."""
        return self.rules.get(rule, self.action)

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        also: dict[str, JSON] = {"rules": dict(self.rules)} if self.rules else {}
        also |= {"options": dict(self.options)} if self.options else {}
        return {"name": self.name, "action": self.action, **also}


@dataclass(frozen=True, slots=True)
class Admission:
    """Which sources may be used at all.

    `allow` and `forbid` are SPDX licence keys, or beginnings of them that end in `*`; `otherwise` is what happens to a
    licence in neither list. `required` names the declarations that must be there and say something. `on_problem` is
    `block` or `warn`.
    """

    allow: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    otherwise: str = BLOCK
    required: tuple[str, ...] = ("licence", "consent", "origin")
    on_problem: str = BLOCK

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {
            "allow": sorted(self.allow),
            "forbid": sorted(self.forbid),
            "otherwise": self.otherwise,
            "required": sorted(self.required),
            "on_problem": self.on_problem,
        }


@dataclass(frozen=True, slots=True)
class DataPolicy:
    """Admission, row guards in the order in which they are reported, and how much may be wrong.

    `max_bad_rows` is the largest share of rows of a source that may be unreadable and left out; 0 stops at the first.
    `max_flagged` is the largest share of rows with a finding of any action before the source is blocked; None: any.
    `longest_row` is in bytes.
    """

    admission: Admission = Admission()
    guards: tuple[GuardSettings, ...] = ()
    max_bad_rows: float = 0.0
    max_flagged: float | None = None
    longest_row: int = 1024 * 1024

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {
            "admission": self.admission.identity,
            "guards": [guard.identity for guard in self.guards],
            "max_bad_rows": self.max_bad_rows,
            "max_flagged": self.max_flagged,
            "longest_row": self.longest_row,
        }

    def guards_for(self, own: tuple[GuardSettings, ...]) -> tuple[GuardSettings, ...]:
        """Return the settings of every guard for a source with settings of its `own`, which win, rule by rule."""
        mine = {guard.name: guard for guard in own}
        merged = [_joined(guard, mine.pop(guard.name)) if guard.name in mine else guard for guard in self.guards]
        return (*merged, *mine.values())

    def loosened_for(self, own: tuple[GuardSettings, ...]) -> tuple[Loosened, ...]:
        """Return what a source with settings of its `own` lets pass more easily than the policy does."""
        return loosened(self.guards, self.guards_for(own))


@dataclass(frozen=True, slots=True)
class Loosened:
    """A guard, or one rule of it, that does less about the rows of one source than the policy asks for.

    An empty `rule` stands for all rules that are not named one by one. `still` are the rules of a guard that is off
    otherwise which go on as they were.
    """

    guard: str
    rule: str
    before: str
    after: str
    still: tuple[str, ...] = ()


def loosened(policy: Sequence[GuardSettings], special: Sequence[GuardSettings]) -> tuple[Loosened, ...]:
    """Return every guard and rule whose action under `special` settings is milder than under those of the policy."""
    own = {guard.name: guard for guard in special}
    found: list[Loosened] = []
    for guard in policy:
        mine = own.get(guard.name, GuardSettings(guard.name, OFF))
        named = sorted({*guard.rules, *mine.rules})
        whole = (guard.action, mine.action)
        if _milder(*whole):
            still = tuple(rule for rule in named if mine.action_of(rule) != OFF) if mine.action == OFF else ()
            found.append(Loosened(guard.name, "", *whole, still))
        for rule in named:
            pair = (guard.action_of(rule), mine.action_of(rule))
            if _milder(*pair) and pair != whole:
                found.append(Loosened(guard.name, rule, *pair))
    return tuple(found)


def _milder(before: str, after: str) -> bool:
    return ACTIONS.index(after) < ACTIONS.index(before)


def _joined(policy: GuardSettings, own: GuardSettings) -> GuardSettings:
    return GuardSettings(policy.name, own.action, {**policy.rules, **own.rules}, {**policy.options, **own.options})


def most_severe(actions: tuple[str, ...]) -> str:
    """Return the most severe of some actions, `off` of none.

    Raises:
        ValueError: for a word that is no action.
    """
    return max(actions, key=ACTIONS.index, default=OFF)
