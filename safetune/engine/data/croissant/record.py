"""A Croissant record read as what a source declares of itself."""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from safetune.core.errors import UsageError, reason_of
from safetune.engine.data.croissant.licences import spdx, together
from safetune.engine.data.croissant.terms import Terms, many, text_of
from safetune.engine.data.records import Strange, strict_json
from safetune.state.files import open_regular

VERSIONS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/1.0")
_MAX_BYTES = 16 * 1024 * 1024
_LONGEST_TEXT = 500
_MOST_TEXTS = 50
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_].*)?")
_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?(?:[T ].*)?")
# What a record says of how the data may be used and what is wrong with it: property -> how a limit begins.
_LIMITS: Mapping[str, str] = {
    "rai:dataLimitations": "",
    "rai:dataBiases": "bias: ",
    "rai:dataSocialImpact": "social impact: ",
    "rai:personalSensitiveInformation": "personal or sensitive information: ",
    "rai:dataUseCases": "meant for: ",
    "conditionsOfAccess": "access: ",
}


@dataclass(frozen=True, slots=True)
class Record:
    """What a Croissant record says of a data set, in the words of a source; empty where it says nothing.

    `sha256` holds the digests of its files by their names. Croissant has no property for consent, so `consent` and
    `basis` are empty unless something else is put into this form; `limits` repeats what the record says of personal
    information and of conditions of use.
    """

    path: str
    version: str
    name: str = ""
    licence: str = ""
    publisher: str = ""
    origin: str = ""
    collected: tuple[str, str] = ("", "")
    languages: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    consent: str = ""
    basis: str = ""


def read_record(path: Path, whose: str) -> Record:
    """Read a Croissant 1.0 or 1.1 record.

    Raises:
        UsageError: when it cannot be read, is no such record, or says something that cannot be understood.
    """
    shown = f"{whose}: {path.name}"
    found = _read(path, shown)
    terms = Terms(found.get("@context"))
    about = terms.members(found)
    said = {text_of(value) for value in many(about.get("dct:conformsTo"))}
    version = next((v for v in VERSIONS if said & {v, v.replace("http:", "https:"), f"{v}/"}), "")
    if not version:
        raise UsageError(
            f"{shown} is no Croissant 1.0 or 1.1 record", hint=f'it needs "dct:conformsTo": "{VERSIONS[0]}"'
        )
    return Record(
        path=str(path),
        version=version.rpartition("/")[2],
        name=text_of(about.get("name"))[:_LONGEST_TEXT],
        licence=together(filter(None, (_licence(one, terms) for one in many(about.get("license"))))),
        publisher=_people(about, terms)[:_LONGEST_TEXT],
        origin=(text_of(about.get("url")) or text_of(next(iter(many(about.get("sameAs"))), "")))[:_LONGEST_TEXT],
        collected=_collected(about, shown),
        languages=_languages(about, terms),
        limits=_limits(about, terms),
        sha256=dict(_sums(about, terms)),
    )


def _read(path: Path, shown: str) -> Mapping[str, Any]:
    try:
        with open_regular(path.resolve()) as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise Strange(f"it has more than {_MAX_BYTES} bytes")
        found = strict_json(data)
        if not isinstance(found, dict):
            raise Strange("it is no JSON object")
    except OSError as error:
        raise UsageError(
            f"{shown} cannot be read: {reason_of(error)}", hint="check `croissant` of the source"
        ) from error
    except Strange as error:
        raise UsageError(f"{shown} is no Croissant record: {error}") from None
    return found


def _licence(value: object, terms: Terms) -> str:
    """Return a licence that is a text, an address, or a work with either."""
    if not isinstance(value, dict):
        return spdx(text_of(value))
    work = terms.members(value)
    written = [text for key in ("url", "@id", "name") if (text := text_of(work.get(key)))]
    # An address that is known wins over a name such as "see the web page".
    found = [spdx(text) for text in written]
    return next((key for key, text in zip(found, written, strict=True) if key != text), next(iter(found), ""))


def _people(about: Mapping[str, Any], terms: Terms) -> str:
    for key in ("publisher", "creator"):
        names = [text_of(item) if isinstance(item, str) else "" for item in many(about.get(key))]
        names += [text_of(node.get("name")) for node in terms.nodes(about.get(key))]
        if found := [name for name in names if name]:
            return ", ".join(dict.fromkeys(found))
    return ""


def _times(about: Mapping[str, Any]) -> list[str]:
    """Return what is said of the time of collection; the RAI vocabulary is written in two ways."""
    for key in ("rai:dataCollectionTimeframe", "rai:dataCollectionTimeFrame", "temporalCoverage"):
        if times := [text for value in many(about.get(key)) if (text := text_of(value))]:
            return times
    return []


def _collected(about: Mapping[str, Any], shown: str) -> tuple[str, str]:
    """Return the first and the last day of collection; nothing when it is said in words that cannot be compared."""
    days = [_period(text) for text in _times(about)]
    if not all(days):
        return "", ""
    first = "" if any(not day for day, _ in filter(None, days)) else min((d[0] for d in days if d), default="")
    last = "" if any(not day for _, day in filter(None, days)) else max((d[1] for d in days if d), default="")
    if first and last and first > last:
        raise UsageError(f"{shown}: the time of collection ends before it begins")
    return first, last


def _period(text: str) -> tuple[str, str] | None:
    """Return the days of an ISO 8601 date or interval; a year or month stands for all its days, `..` is an open end."""
    begin, slash, end = text.partition("/")
    first = ("", "") if begin in ("", "..") else _days(begin)
    last = first if not slash else ("", "") if end in ("", "..") else _days(end)
    return (first[0], last[1]) if first is not None and last is not None else None


def _days(text: str) -> tuple[str, str] | None:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    try:
        first = datetime.date(year, month or 1, day or 1)
        last_month = month or 12
        last = datetime.date(year, last_month, day or calendar.monthrange(year, last_month)[1])
    except ValueError:
        return None
    return first.isoformat(), last.isoformat()


def _languages(about: Mapping[str, Any], terms: Terms) -> tuple[str, ...]:
    """Return the codes of the languages; nothing when one of them is written out, for it cannot be compared."""
    found: list[str] = []
    for value in many(about.get("inLanguage")):
        node = terms.members(value) if isinstance(value, dict) else {}
        written = text_of(node.get("alternateName")) or text_of(node.get("name")) if node else text_of(value)
        match = _LANGUAGE.fullmatch(written)
        if match is None:
            return ()
        found.append(match[1].lower())
    return tuple(dict.fromkeys(found))


def _limits(about: Mapping[str, Any], terms: Terms) -> tuple[str, ...]:
    found = [
        f"{begin}{text}" for key, begin in _LIMITS.items() for value in many(about.get(key)) if (text := text_of(value))
    ]
    found += [f"collected: {text}" for text in _times(about) if _period(text) is None]
    found += [f"use: {text}" for text in _uses(about.get("usageInfo"), terms)]
    return tuple(dict.fromkeys(text[:_LONGEST_TEXT] for text in found))[:_MOST_TEXTS]


def _uses(value: object, terms: Terms) -> Iterator[str]:
    """Yield the conditions of use: texts, terms of a vocabulary with their codes, permissions of an ODRL offer."""
    for item in many(value):
        if not isinstance(item, dict):
            yield text_of(item)
            continue
        node = terms.members(item)
        name = text_of(node.get("name"))
        code = text_of(node.get("termCode")) or text_of(node.get("url")) or text_of(node.get("@id"))
        if name or code:
            yield f"{name} ({code})" if name and code else name or code
        inner = [inner for key, inner in item.items() if "odrl" in key]
        for one in inner:
            yield from _uses(one, terms)


def _sums(about: Mapping[str, Any], terms: Terms) -> Iterator[tuple[str, str]]:
    """Yield (name, SHA-256) of the files; by what they are fetched as, or else by their id."""
    for node in terms.nodes(about.get("distribution")):
        digest = text_of(node.get("sha256")).lower()
        if _SHA256.fullmatch(digest):
            where = text_of(node.get("contentUrl")) or text_of(node.get("name")) or text_of(node.get("@id"))
            yield PurePosixPath(where.partition("?")[0]).name or where, digest
