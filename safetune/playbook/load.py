"""The one way in: a path to a playbook in, a frozen playbook out, or every mistake at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import PlaybookError
from safetune.core.playbook import Playbook
from safetune.playbook.build import build
from safetune.playbook.extends import read_whole
from safetune.playbook.meaning import problems
from safetune.playbook.models import read_model
from safetune.playbook.names import name_of
from safetune.playbook.nodes import Node
from safetune.playbook.plugin_names import PluginNames, plugin_problems
from safetune.playbook.strict_yaml import MOST, quote
from safetune.playbook.suites import build_suite, find_suite

_SINGLE = ("model", "data", "prompts", "promotion", "rollback")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A playbook, and where its parts were written: `where` maps `model`, `source NAME`, `suite NAME`,
    `guardrail NAME`, `sprint NAME`, `stage SPRINT/STAGE`, `data`, `prompts`, `prompt part NAME`,
    `prompt template NAME`, `promotion` and `rollback` to `file:line`.
    """

    playbook: Playbook
    where: Mapping[str, str]


def load(path: Path) -> Playbook:
    """Return the playbook in a file, with what it extends.

    Raises:
        PlaybookError: with every mistake; nothing else.
    """
    return load_marked(path).playbook


def load_marked(path: Path, plugins: PluginNames | None = None) -> Loaded:
    """Return the playbook in a file, with what it extends, and where its parts were written.

    `plugins` maps each kind of plugin to the names that exist; without it, names of plugins are not checked.

    Raises:
        PlaybookError: with every mistake, at most `MOST`; nothing else.
    """
    whole, found = read_whole(path)
    if whole is None:
        raise PlaybookError(_ordered(found, path))
    definitions, wrong = _definitions(whole)
    known = {name: node for name, (_, node) in definitions.items()}
    strange = plugin_problems(whole, known, plugins) if plugins is not None else ()
    mistakes = _ordered((*found, *wrong, *problems(whole, known), *strange), path)
    if mistakes:
        raise PlaybookError(mistakes)
    model = read_model(whole.members["model"])
    if model is None or isinstance(model, Diagnostic):
        raise PlaybookError((whole.members["model"].place.diagnostic("SP304", "the model cannot be read"),))
    suites = tuple(build_suite(node) for _, node in definitions.values() if node is not None)
    playbook = build(whole, model, suites, Path(whole.place.text.folder) / path.name)
    return Loaded(playbook, _where(whole, {name: item for name, (item, _) in definitions.items()}))


def _definitions(whole: Node) -> tuple[dict[str, tuple[Node, Node | None]], list[Diagnostic]]:
    """Return each suite by name: the item that lists it and its definition, None when that cannot be read."""
    found: dict[str, tuple[Node, Node | None]] = {}
    mistakes: list[Diagnostic] = []
    for item in whole.items_of("suites"):
        name = name_of(item)
        if name and name in found:
            message = f"the suite {quote(name)} is listed before, at {found[name][0].place.where}"
            mistakes.append(item.place.diagnostic("SP301", message, "remove one of the two"))
            continue
        definition, wrong = find_suite(item)
        mistakes += wrong
        if name:
            found[name] = (item, definition)
    return found, mistakes


def _ordered(found: Iterable[Diagnostic], path: Path) -> tuple[Diagnostic, ...]:
    """Return mistakes without doubles, those of the playbook itself first, in the order of the text."""
    unique = dict.fromkeys(found)
    ordered = sorted(unique, key=lambda d: (d.file != str(path), d.file, d.line, d.column, d.code))
    return tuple(ordered[:MOST])


def _where(whole: Node, suites: Mapping[str, Node]) -> Mapping[str, str]:
    where = {key: whole.key_place(key).where for key in _SINGLE if key in whole.keys}
    for kind in ("source", "guardrail", "sprint"):
        where |= {f"{kind} {item.text_of('name')}": item.place.where for item in whole.items_of(f"{kind}s")}
    where |= {f"suite {name}": item.place.where for name, item in suites.items()}
    if (prompts := whole.get("prompts")) is not None:
        for kind in ("part", "template"):
            named = {f"prompt {kind} {item.text_of('name')}": item for item in prompts.items_of(f"{kind}s")}
            where |= {name: item.place.where for name, item in named.items()}
    for sprint in whole.items_of("sprints"):
        prefix = f"stage {sprint.text_of('name')}"
        where |= {f"{prefix}/{stage.text_of('name')}": stage.place.where for stage in sprint.items_of("stages")}
    return where
