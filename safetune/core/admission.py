"""Admission: whether a source may be used at all, from what it declares and what the policy asks. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from safetune.core.data_policy import BLOCK, Admission
from safetune.core.source import Source

# Whether people say yes or no is no declaration: who agreed, and how, is one.
_YES_NO = frozenset({"yes", "no", "y", "n", "ok", "okay", "true", "false", "ja", "nein", "oui", "non", "si", "given"})
# Words that say no, or that nobody knows; beside them only words without a who or a how.
_DENIES = frozenset(
    {
        *("no", "not", "never", "none", "without", "nobody", "cannot", "lacks", "lacking", "yes", "unknown", "unclear"),
        *(
            "unsure",
            "uncertain",
            "missing",
            "pending",
            "refused",
            "refuse",
            "refuses",
            "denied",
            "declined",
            "withdrawn",
        ),
        *(
            "withdrew",
            "withheld",
            "revoked",
            "rejected",
            "objected",
            "retracted",
            "expired",
            "dont",
            "didnt",
            "don",
            "didn",
            "false",
            "absent",
        ),
    }
)
_FILLS = frozenset(
    {
        *("consent", "consents", "consented", "permission", "permissions", "agreement", "agree", "agreed", "opt", "in"),
        *("we", "i", "it", "they", "he", "she", "us", "them", "their", "our", "its", "this", "that", "there", "here"),
        *("the", "a", "an", "any", "all", "of", "for", "from", "by", "to", "at", "on", "was", "is", "are", "were"),
        *("be", "been", "has", "have", "had", "do", "does", "did", "don", "didn", "doesn", "t", "wasn", "isn", "if"),
        *("hasn", "haven", "weren", "aren", "given", "give", "gave", "asked", "ask", "sought", "obtained", "obtain"),
        *("collected", "granted", "recorded", "documented", "available", "known", "know", "sure", "clear", "yet"),
        *("so", "far", "one", "who", "whether", "users", "user", "people", "persons", "authors", "author", "writers"),
        *("customers", "participants", "subjects", "subject", "data", "rows", "row", "and", "or", "but", "status"),
        *("later", "since", "now", "again", "explicit", "explicitly", "written", "required", "needed"),
        *("necessary", "training", "train", "use", "specified", "stated", "provided", "applicable", "confirmed"),
    }
)
# How a sentence begins that says no, whatever comes after.
_REFUSES = re.compile(
    r"(?:no|without|lacks?|lacking|missing)(?: (?!personal|identif)\w+){0,2} (?:consent|permission|agreement)\b"
    r"|(?:(?:the|any|all|their|user|users|explicit|written) )*(?:consent|permission)"
    r"(?: (?:form|status|was|is|has|been|were|had|have|later|since|explicitly))*"
    r" (?:refused|denied|declined|withdrawn|withheld|revoked|rejected|retracted|unknown|unclear|missing|pending|expired"
    r"|(?:not|never)(?: (?:yet|been|explicitly))* (?:given|asked|sought|obtained|collected|granted|known|recorded))\b"
    r"|(?:refused|denied|declined|withdrawn|withheld|revoked|rejected|unknown|unclear|unsure"
    r"|(?:not|never) (?:yet )?(?:given|asked|sought|obtained|collected|granted|known|sure))\b"
    r"|(?:(?:we|i|they|the|all|users?|authors?|people|participants?|customers?|subjects?) )+(?:have |has |had )?"
    r"(?:refused|declined|withdrew|withdrawn|objected|opted out"
    r"|(?:(?:do|did|does|have|has|had) (?:not|never)|don t|didn t|doesn t|haven t|hasn t|never)"
    r" (?:know|agreed?|consent(?:ed)?|allow(?:ed)?|have (?:any |their )?(?:consent|permission)))\b"
)
# What people write into a field that must not be empty when they have nothing to say.
_NOTHING = frozenset(
    {
        *("unknown", "none", "n/a", "n.a", "na", "nil", "null", "no", "tbd", "tba", "todo", "fixme", "xxx", "x"),
        "other",
        *("not known", "not specified", "unspecified", "not available", "not applicable", "undefined", "noassertion"),
        *("to be determined", "to be decided", "pending", "unclear", "missing", "any", "various", "unlicensed"),
    }
)
_HINTS = {
    "licence": "add `licence`, as the publisher states it, by its SPDX name",
    "consent": "add `consent` (who agreed, and how) or a lawful `basis`",
    "basis": "add `basis`, the lawful basis of personal data, or no-personal-data",
    "origin": "add `origin`: who wrote, generated or collected the rows",
    "publisher": "add `publisher`: who answers for the rows",
    "collected": "add `collected: {from: ..., to: ...}`",
    "languages": "add `languages: [en]`",
    "limits": "add `limits`: whom the rows leave out, what is known to be wrong with them",
}


def says_nothing(text: str) -> bool:
    """Return whether a declaration is empty, or a word for nothing: unknown, none, n/a, ?, tbd and the like."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .!?-_/<>()[]'\"*")
    return plain in _NOTHING or not any(character.isalnum() for character in plain)


def denies(consent: str) -> bool:
    """Return whether a text on consent says no, that nobody knows, or a bare yes: nobody agreed in a way it could tell.

    Only plain words are understood. What is said in other words, or in another language, a person has to read.
    """
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", consent).casefold())
    if all(word in _YES_NO for word in words):
        return True
    said = {word for word in words if not word.isdecimal()}
    return (said <= _DENIES | _FILLS and not said.isdisjoint(_DENIES)) or bool(_REFUSES.match(" ".join(words)))


@dataclass(frozen=True, slots=True)
class Licence:
    """A parsed SPDX expression: one licence by its `key`, with an `exception` or without; or, of other expressions,
    `any_of` (OR: the one that is best for us may be chosen) or `all_of` (AND: each must be kept).
    """

    key: str = ""
    exception: str = ""
    any_of: tuple[Licence, ...] = ()
    all_of: tuple[Licence, ...] = ()

    @property
    def name(self) -> str:
        """One licence as SPDX writes it."""
        return f"{self.key} WITH {self.exception}" if self.exception else self.key


@dataclass(frozen=True, slots=True)
class Declared:
    """What a source declares, and its licence as parsed; None where there is none or it could not be understood.

    `parts` are the sources that a mixture was made of.
    """

    source: Source
    licence: Licence | None = None
    parts: tuple[Declared, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a source may not be used, what to do about it, and whether it stops anything or is only told."""

    why: str
    hint: str
    blocks: bool = True


_ALLOWED, _OTHER, _FORBIDDEN = range(3)


def refusals(declared: Declared, policy: Admission) -> tuple[Refusal, ...]:
    """Return everything that speaks against a source under a policy, the sources of a mixture included."""
    source = declared.source
    found = [*_use(source), *_missing(declared, policy), *_licence(declared, policy)]
    for part in declared.parts:
        found += [Refusal(f"its source {part.source.name}: {r.why}", r.hint, r.blocks) for r in refusals(part, policy)]
    return tuple(found)


def _use(source: Source) -> list[Refusal]:
    """Whoever gave rows for evaluation only has said no, whatever a policy says."""
    if "train" in source.use:
        return []
    return [Refusal("its `use` lacks train", "leave it out, or ask who provided it")]


def _missing(declared: Declared, policy: Admission) -> list[Refusal]:
    source, blocks = declared.source, policy.on_problem == BLOCK
    about = source.about
    said = {
        "licence": source.licence,
        "consent": source.consent if about.basis in ("", "consent") else about.basis,
        "basis": about.basis,
        "origin": source.origin,
        "publisher": about.publisher,
        "collected": "".join(about.collected),
        "languages": " ".join(about.languages),
        "limits": " ".join(about.limits),
    }
    found = []
    for name in policy.required:
        text = said.get(name, "")
        if says_nothing(text) or (name == "consent" and denies(text)):
            written = f', and "{text}" says nothing' if text.strip() else ""
            found.append(Refusal(f"it declares no {name}{written}", _HINTS.get(name, f"add `{name}`"), blocks))
    return found


def _licence(declared: Declared, policy: Admission) -> list[Refusal]:
    text = declared.source.licence
    if says_nothing(text):
        return []  # whether that matters is said by `required`
    blocks = policy.on_problem == BLOCK
    if declared.licence is None:
        return [Refusal(f'its licence "{text}" is no SPDX expression', _HINTS["licence"], blocks)]
    standing, key = _judged(declared.licence, policy)
    if standing == _FORBIDDEN:
        hint = "leave it out, or get the rows under another licence"
        return [Refusal(f"the data policy forbids its licence {key}", hint, blocks)]
    if standing == _OTHER and policy.otherwise != "allow":
        hint = "once somebody has read it, add it to data.admission.licences.allow"
        return [Refusal(f"the data policy does not know its licence {key}", hint, blocks and policy.otherwise == BLOCK)]
    return []


def _judged(licence: Licence, policy: Admission) -> tuple[int, str]:
    """Return how a policy stands to a licence, and which licence in it decides."""
    if licence.any_of:
        return min((_judged(one, policy) for one in licence.any_of), key=lambda found: found[0])
    if licence.all_of:
        return max((_judged(one, policy) for one in licence.all_of), key=lambda found: found[0])
    # An exception only adds permissions, so what holds for the licence holds with it; unless the policy names both.
    if _listed(licence.name, policy.forbid):
        return _FORBIDDEN, licence.name
    if licence.exception and licence.name.casefold() in {key.casefold() for key in policy.allow}:
        return _ALLOWED, licence.name
    if _listed(licence.key, policy.forbid):
        return _FORBIDDEN, licence.name
    return (_ALLOWED if _listed(licence.key, policy.allow) else _OTHER), licence.name


def _listed(name: str, keys: tuple[str, ...]) -> bool:
    """Return whether a licence is among keys or begins as one does that ends in `*`; case never matters."""
    plain = name.casefold()
    return any(plain.startswith(key[:-1].casefold()) if key.endswith("*") else plain == key.casefold() for key in keys)
