"""Hold a document against a schema and say every mistake with its place.

This knows the part of JSON Schema that `schema.json` uses, and agrees with the `jsonschema` package on it (tested). The
package is not imported: it would cost a third of the time that `plan` may take, and its messages know no places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.playbook.nodes import Node, Value
from safetune.playbook.scalars import ambiguity
from safetune.playbook.schema import Schema
from safetune.playbook.strict_yaml import MOST, quote

# Everything `check` understands; a test holds schema.json to it. The others are for editors and messages.
KEYWORDS = frozenset(
    {
        *("$ref", "type", "enum", "if", "else", "oneOf"),
        *("minimum", "maximum", "exclusiveMinimum", "maxLength", "pattern"),
        *("items", "minItems", "maxItems", "uniqueItems"),
        *("properties", "additionalProperties", "propertyNames", "required", "dependentRequired"),
        *("minProperties", "maxProperties"),
    }
)
ANNOTATIONS = frozenset({"$schema", "$defs", "title", "description", "patternErrorMessage", "oneOfMessage"})

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def check(node: Node, schema: Schema) -> tuple[Diagnostic, ...]:
    """Return the mistakes in `node`, at most `MOST`."""
    return tuple(islice(_Walker(schema.get("$defs", {})).walk(node, schema), MOST))


class _Walker:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def walk(self, node: Node, schema: Schema) -> Iterator[Diagnostic]:
        """Yield the mistakes in a node and below it."""
        while "$ref" in schema:
            schema = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
        if node.broken:
            return
        wrong = _type_problem(node, schema) or _enum_problem(node, schema)
        if wrong is not None:
            yield wrong
            return
        value = node.value
        if isinstance(value, str):
            yield from _text_problems(node, value, schema)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from _number_problems(node, value, schema)
        elif isinstance(value, tuple):
            yield from self._list(node, value, schema)
        elif isinstance(value, Mapping):
            yield from self._mapping(node, value, schema)

    def _list(self, node: Node, items: tuple[Node, ...], schema: Schema) -> Iterator[Diagnostic]:
        most = schema.get("maxItems")
        yield from _count_problems(node, len(items), (schema.get("minItems"), most), "item")
        if schema.get("uniqueItems") and (most is None or len(items) <= most):
            seen: list[object] = []
            for item in items:
                if item.json in seen:
                    yield item.place.diagnostic("SP207", f"{_shown(item)} is listed twice", "remove one of them")
                seen.append(item.json)
        if "items" in schema:
            for item in items:
                yield from self.walk(item, schema["items"])

    def _mapping(self, node: Node, members: Mapping[str, Node], schema: Schema) -> Iterator[Diagnostic]:
        yield from _count_problems(
            node, len(members), (schema.get("minProperties"), schema.get("maxProperties")), "key"
        )
        yield from _key_problems(node, members, schema)
        properties: Schema = schema.get("properties", {})
        others = schema.get("additionalProperties")
        for key, member in members.items():
            if key in properties:
                yield from self.walk(member, properties[key])
            elif isinstance(others, Mapping):
                yield from self.walk(member, others)


def _key_problems(node: Node, members: Mapping[str, Node], schema: Schema) -> Iterator[Diagnostic]:
    """Yield unknown, missing, badly spelt and contradicting keys."""
    properties: Schema = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        for key in members:
            if key not in properties:
                hint = did_you_mean(key, [k for k in properties if k not in members] or properties)
                known = f"known here: {', '.join(properties)}"
                yield node.key_place(key).diagnostic("SP201", f"there is no key {quote(key)} here", hint or known)
    names: Schema = schema.get("propertyNames", {})
    for key in members:
        if "pattern" in names and not _compiled(names["pattern"]).search(key):
            yield node.key_place(key).diagnostic("SP206", f"{quote(key)}: {names['patternErrorMessage']}")
    for key in _missing(members, schema):
        description = describe(properties.get(key, {}))
        yield node.place.diagnostic("SP202", f"the key {quote(key)} is missing", description)
    for key, needed in schema.get("dependentRequired", {}).items():
        for other in needed:
            if key in members and other not in members:
                hint = describe(properties.get(other, {}))
                yield node.key_place(key).diagnostic("SP202", f"{quote(key)} needs the key {quote(other)}", hint)
    if "oneOf" in schema:
        fitting = [choice for choice in schema["oneOf"] if all(key in members for key in choice["required"])]
        if len(fitting) != 1:
            yield node.place.diagnostic("SP208", schema["oneOfMessage"])


def _missing(members: Mapping[str, Node], schema: Schema) -> list[str]:
    required = list(schema.get("required", ()))
    if "else" in schema and not all(key in members for key in schema["if"]["required"]):
        required += schema["else"]["required"]
    return [key for key in required if key not in members]


def describe(schema: Schema) -> str:
    """Return the first sentence of what a schema says of itself, for a hint; empty when it says nothing."""
    return str(schema.get("description", "")).split(". ")[0].rstrip(".")


def _kind(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, tuple):
        return "array"
    if isinstance(value, Mapping):
        return "object"
    return "integer" if isinstance(value, int) or value.is_integer() else "number"


def _type_problem(node: Node, schema: Schema) -> Diagnostic | None:
    wanted = schema.get("type")
    if wanted is None:
        return None
    allowed = [wanted] if isinstance(wanted, str) else list(wanted)
    found = _kind(node.value)
    if found in allowed or (found == "integer" and "number" in allowed):
        return None
    expected = " or ".join(_TYPES[kind] for kind in allowed)
    return node.place.diagnostic("SP203", f"expected {expected}, found {_shown(node)}", _type_hint(node, allowed))


def _type_hint(node: Node, allowed: list[str]) -> str:
    """Say how to write what was probably meant."""
    value = node.value
    if value is None:
        return "write a value, or remove the key"
    if "string" in allowed and node.plain:
        return f'put it in quotes when a text is meant: "{_spelling(node)}"'
    if "array" in allowed:
        return "write a list: [a, b], or one item per line, each after a dash"
    if isinstance(value, str) and node.plain:
        if "boolean" in allowed and ambiguity(value) == "a boolean":
            return "write true or false"
        if {"number", "integer"} & set(allowed) and ambiguity(value):
            return "write it in plain decimal digits, as 1000, 0.25 or 3e-4"
    if isinstance(value, str) and {"number", "integer", "boolean"} & set(allowed) and not node.plain:
        return "remove the quotes"
    return ""


def _spelling(node: Node) -> str:
    """Return a plain scalar as it stands in the text, as far as that is simple to see."""
    line = node.place.text.lines[node.place.line - 1][node.place.column - 1 :]
    found = re.match(r"[^\s,\]}#]{1,60}", line)
    return found.group() if found else str(node.value)


def _shown(node: Node) -> str:
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, tuple):
        return "a list"
    return "a mapping" if isinstance(value, Mapping) else f"the number {_spelling(node)}"


def _enum_problem(node: Node, schema: Schema) -> Diagnostic | None:
    allowed = schema.get("enum")
    if allowed is None or (isinstance(node.value, str) and node.value in allowed):
        return None
    known = ", ".join(allowed)
    wanted = known if len(allowed) == 1 else f"one of {known}"
    hint = did_you_mean(node.text, allowed) if node.text else ""
    lower = {str(word).lower(): str(word) for word in allowed}
    hint = hint or (f"write {lower[node.text.lower()]}" if node.text.lower() in lower else "")
    return node.place.diagnostic("SP204", f"expected {wanted}, found {_shown(node)}", hint)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _text_problems(node: Node, value: str, schema: Schema) -> Iterator[Diagnostic]:
    longest = schema.get("maxLength")
    if longest is not None and len(value) > longest:
        yield node.place.diagnostic("SP206", f"the text has {len(value):,} characters, allowed are {longest:,}")
    elif "pattern" in schema and not _compiled(schema["pattern"]).search(value):
        message = schema["patternErrorMessage"]
        hint = _pattern_hint(value, schema) or describe(schema)
        yield node.place.diagnostic("SP206", f"{quote(value)}: {message}", hint)


def _pattern_hint(value: str, schema: Schema) -> str:
    """Offer a spelling that would do, when a small change is enough."""
    tried = re.sub(r"[^a-z0-9._-]+", "-", value.strip().lower()).strip("-._")
    fits = tried and tried != value and _compiled(schema["pattern"]).search(tried)
    return f'"{tried}" would do' if fits and len(tried) <= 64 else ""


def _number_problems(node: Node, value: int | float, schema: Schema) -> Iterator[Diagnostic]:
    low, high, above = (schema.get(key) for key in ("minimum", "maximum", "exclusiveMinimum"))
    text = _spelling(node)
    if low is not None and value < low:
        yield node.place.diagnostic("SP205", f"{text} is below the minimum of {low:,}", _rate_hint(value, schema))
    if high is not None and value > high:
        yield node.place.diagnostic("SP205", f"{text} is above the maximum of {high:,}", _rate_hint(value, schema))
    if above is not None and value <= above:
        yield node.place.diagnostic("SP205", f"{text} must be above {above:,}")


def _rate_hint(value: int | float, schema: Schema) -> str:
    """A limit above 1 was probably meant in per cent."""
    if schema.get("maximum") == 1 and 1 < value <= 100:
        return f"rates go from 0 to 1: {value} per cent is {value / 100:g}"
    return ""


def _count_problems(node: Node, count: int, limits: tuple[Any, Any], what: str) -> Iterator[Diagnostic]:
    low, high = limits
    if low is not None and count < low:
        yield node.place.diagnostic("SP207", f"expected at least {low} {what}{'s' if low > 1 else ''}, found {count}")
    if high is not None and count > high:
        yield node.place.diagnostic("SP207", f"expected at most {high} {what}{'s' if high > 1 else ''}, found {count}")
