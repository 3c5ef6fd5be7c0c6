"""The data policy in layers: what a playbook says, what it extends, and below both the policy that ships with safetune.

Keys are joined one by one, and guards by name: an action, a rule or an option that an upper layer gives wins, and what
it does not mention stays as the layer below has it. Lists of licences are joined too: what any layer allows is allowed,
unless any layer forbids it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from safetune.playbook.nodes import Node
from safetune.playbook.shared import shipped_configs
from safetune.playbook.strict_yaml import parse
from safetune.playbook.text import read_text

DATA = "data"

_Deeper = Mapping[str, Callable[[Node, Node], Node]]
_FLAT: _Deeper = {}


@cache
def shipped_policy() -> Node:
    """Return the `data` of the policy that ships with safetune."""
    document, _ = parse(read_text(shipped_configs() / "policies" / "data.yaml"))
    return document.members[DATA]


def on_shipped(whole: Node) -> Node:
    """Return a playbook with the shipped policy below its own; `keys` still tell whether it has one."""
    own = whole.get(DATA)
    return replace(whole, value={**whole.members, DATA: join_data(shipped_policy(), own) if own else shipped_policy()})


def join_data(below: Node, above: Node) -> Node:
    """Return a data policy on top of another one; what is no mapping replaces what is below, and is refused later."""
    if not isinstance(above.value, Mapping):
        return above
    return _joined(below, above, {"admission": _join_admission, "guards": _join_guards})


def _join_admission(below: Node, above: Node) -> Node:
    return _joined(below, above, {"licences": _join_licences})


def _join_licences(below: Node, above: Node) -> Node:
    return _joined(below, above, {"allow": _join_keys, "forbid": _join_keys})


def _join_keys(below: Node, above: Node) -> Node:
    """Join two lists of licences, each once; a list that is none is left as it is, and refused."""
    if not isinstance(below.value, tuple) or not isinstance(above.value, tuple):
        return above
    own = {node.text.casefold() for node in above.items}
    return replace(above, value=(*(node for node in below.items if node.text.casefold() not in own), *above.items))


def _join_guards(below: Node, above: Node) -> Node:
    """Join lists of guards by name; one that is given twice takes its slot once, so that the second is found."""
    if not isinstance(below.value, tuple) or not isinstance(above.value, tuple):
        return above
    items = list(below.items)
    slots = {_name(item): n for n, item in enumerate(items)}
    for item in above.items:
        slot = slots.pop(_name(item), None)
        if slot is None:
            items.append(item)
        else:
            items[slot] = _joined(items[slot], item, dict.fromkeys(item.members, _join_settings))
    return replace(above, value=tuple(items))


def _join_settings(below: Node, above: Node) -> Node:
    return _joined(below, above, {"rules": _joined})


def _name(item: Node) -> str:
    return next(iter(item.members), "")


def _joined(below: Node, above: Node, deeper: _Deeper = _FLAT) -> Node:
    """Join two mappings key by key; `deeper` says how the values of a key are joined, others are replaced."""
    if not isinstance(below.value, Mapping) or not isinstance(above.value, Mapping):
        return above
    members, keys = dict(below.members), {key: below.key_place(key) for key in below.members}
    for key, node in above.members.items():
        join = deeper.get(key)
        members[key] = join(members[key], node) if join and key in members else node
        keys[key] = above.key_place(key)
    return replace(above, value=members, keys=keys)
