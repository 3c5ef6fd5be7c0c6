"""The terms of a JSON-LD document under the names that the Croissant specification uses, however they were written.

This is no JSON-LD processor: prefixes and terms of the document's own `@context` are resolved, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SCHEMA, CROISSANT = "schema.org/", "mlcommons.org/croissant/"
_KNOWN = {
    "sc": "https://schema.org/",
    "schema": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
}
_SHORT = (
    ("mlcommons.org/croissant/RAI/", "rai:"),
    ("mlcommons.org/croissant/", "cr:"),
    ("schema.org/", ""),
    ("purl.org/dc/terms/", "dct:"),
    ("www.w3.org/ns/prov#", "prov:"),
)


class Terms:
    """The context of one document."""

    def __init__(self, context: object) -> None:
        """Take the `@context`: a mapping, or a list of mappings and addresses; an address stands for schema.org."""
        self._terms: dict[str, str] = dict(_KNOWN)
        for part in context if isinstance(context, list) else [context]:
            for name, value in part.items() if isinstance(part, dict) else ():
                iri = value.get("@id") if isinstance(value, dict) else value
                if isinstance(iri, str) and not name.startswith("@"):
                    self._terms[name] = iri

    def name(self, key: str) -> str:
        """Return a key as the specification writes it, such as `license`, `rai:dataBiases`, `dct:conformsTo`."""
        iri = self._terms.get(key, key) if ":" not in key else key
        prefix, colon, rest = iri.partition(":")
        if colon and not rest.startswith("//") and prefix in self._terms:
            iri = self._terms[prefix] + rest
        bare = iri.partition("://")[2] if "://" in iri else ""
        for beginning, short in _SHORT:
            if bare.startswith(beginning):
                return short + bare.removeprefix(beginning)
        return iri

    def members(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the members of a node by their names; of two that mean the same the first counts."""
        found: dict[str, Any] = {}
        for key, value in node.items():
            found.setdefault(key if key.startswith("@") else self.name(key), value)
        return found

    def nodes(self, value: object) -> Iterator[dict[str, Any]]:
        """Yield the nodes of a value that may be one or a list."""
        for item in many(value):
            if isinstance(item, dict):
                yield self.members(item)


def many(value: object) -> list[Any]:
    """Return the values of a property: none, one, or a list, also within `@list` and `@set`."""
    if isinstance(value, dict):
        inner = value.get("@list", value.get("@set"))
        return many(inner) if inner is not None else [value]
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def text_of(value: object) -> str:
    """Return a value as text: itself, `@value`, an English text among several languages, or `@id`."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, dict):
        for key in ("@value", "en", "name", "@id"):
            if isinstance(value.get(key), str):
                return " ".join(value[key].split())
        return next((text_of(one) for one in value.values() if isinstance(one, str)), "")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
