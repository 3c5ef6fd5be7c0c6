"""A YAML document as values that know where they were written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from safetune.core.digest import JSON
from safetune.playbook.text import Place

Value = bool | int | float | str | tuple["Node", ...] | Mapping[str, "Node"] | None


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `keys` says where each key of a mapping stands; `plain` is true for a scalar without quotes.

    A `broken` node stands for something that was refused already; nothing more is said about it.
    """

    place: Place
    value: Value
    plain: bool = False
    keys: Mapping[str, Place] = field(default_factory=dict)
    broken: bool = False

    @property
    def items(self) -> tuple[Node, ...]:
        """Return the items of a list; empty for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def members(self) -> Mapping[str, Node]:
        """Return the members of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def text(self) -> str:
        """Return a text value; empty for anything else."""
        return self.value if isinstance(self.value, str) else ""

    def get(self, key: str) -> Node | None:
        """Return the member called `key`, or None."""
        return self.members.get(key)

    def text_of(self, key: str, default: str = "") -> str:
        """Return the text of the member called `key`, or `default`."""
        found = self.get(key)
        return found.text if found is not None and isinstance(found.value, str) else default

    def items_of(self, key: str) -> tuple[Node, ...]:
        """Return the items of the list called `key`; empty when there is none."""
        found = self.get(key)
        return found.items if found is not None else ()

    def texts_of(self, key: str) -> tuple[tuple[str, Node], ...]:
        """Return the texts of the member called `key`, be it one text or a list, each with its node."""
        found = self.get(key)
        if found is None:
            return ()
        nodes = (found,) if isinstance(found.value, str) else found.items
        return tuple((node.text, node) for node in nodes if isinstance(node.value, str))

    def number_of(self, key: str) -> float | None:
        """Return the number of the member called `key`, or None."""
        found = self.get(key)
        return float(found.value) if found is not None and isinstance(found.value, int | float) else None

    def whole_of(self, key: str, default: int = 0) -> int:
        """Return the whole number of the member called `key` (`8.0` is one, as in JSON Schema), or `default`."""
        found = self.get(key)
        return int(found.value) if found is not None and isinstance(found.value, int | float) else default

    def key_place(self, key: str) -> Place:
        """Return where a key stands; the place of the mapping when it is not there."""
        return self.keys.get(key, self.place)

    @property
    def json(self) -> JSON:
        """Return the value as plain JSON."""
        if isinstance(self.value, tuple):
            return [item.json for item in self.value]
        if isinstance(self.value, Mapping):
            return {key: member.json for key, member in self.value.items()}
        return self.value

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it."""
        yield self
        for node in (*self.items, *self.members.values()):
            yield from node.walk()
