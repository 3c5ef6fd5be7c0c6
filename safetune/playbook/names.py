"""Named things in a document: found by name, told apart, missed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.playbook.nodes import Node
from safetune.playbook.strict_yaml import quote

Named = Mapping[str, Node]

_MOST_NAMES = 20


def named(items: Iterable[Node]) -> Named:
    """Return items by their name; of two with one name the first, the second being an error of its own."""
    found: dict[str, Node] = {}
    for item in items:
        if item.text_of("name"):
            found.setdefault(item.text_of("name"), item)
    return found


def name_of(item: Node) -> str:
    """Return the name of an item of a named list: its `name`, or the item itself when it is a text."""
    return item.text or item.text_of("name")


def doubles(items: Iterable[Node], what: str) -> Iterator[Diagnostic]:
    """Yield every name that an earlier item has already."""
    seen: dict[str, Node] = {}
    for item in items:
        name = item.get("name")
        if name is None or not name.text:
            continue
        if name.text in seen:
            message = f"the {what} {quote(name.text)} is defined before, at {seen[name.text].place.where}"
            yield name.place.diagnostic("SP301", message, "rename one of them")
        seen.setdefault(name.text, name)


def unknown(node: Node, name: str, what: str, known: Iterable[str]) -> Diagnostic:
    """Return the mistake of naming something that does not exist, with the nearest name or all of them."""
    known = list(known)
    hint = did_you_mean(name, known) or f"known: {', '.join(known[:_MOST_NAMES]) or 'none'}"
    return node.place.diagnostic("SP302", f"no {what} is called {quote(name)}", hint)
