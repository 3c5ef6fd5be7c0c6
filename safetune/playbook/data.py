"""Sources, guards and the data policy of a document without mistakes, as records of the core."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetune.core.data_policy import FLAG, Admission, DataPolicy, GuardSettings
from safetune.core.digest import JSON
from safetune.core.playbook import Screen
from safetune.core.source import CSV, FOLDER, HUB, JSONL, MIXTURE, PARQUET, Provenance, Source
from safetune.playbook.licences import parse
from safetune.playbook.nodes import Node
from safetune.playbook.paths import is_file, is_folder, resolve, within_file

HUB_PREFIX = "hub:"
_SUFFIXES = {".jsonl": JSONL, ".csv": CSV, ".parquet": PARQUET}
SCREEN_KEYS = frozenset({"method", "harmful", "safe", "flag_above", "flag_top", "action", "max_flagged"})


def kind_of(uri: Node) -> str:
    """Return the kind of a source without `format`: by its prefix, its suffix, or what lies there.

    What DVC pins has the kind of its data; of an out of `dvc.yaml` the suffix is that of the out's name.
    """
    if uri.text.startswith(HUB_PREFIX):
        return HUB
    path, out = within_file(uri)
    suffix = Path(out or path.name.removesuffix(".dvc")).suffix
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if is_folder(path):
        return MIXTURE if is_file(path / "mixture.json") else FOLDER
    return JSONL


def build_source(node: Node, policy: DataPolicy) -> Source:
    """Return one source; `policy` says what a guard does whose action the source leaves alone."""
    uri, columns = node.members["uri"], node.get("columns")
    path, out = within_file(uri)
    located = uri.text if uri.text.startswith(HUB_PREFIX) else f"{path}#{out}" if out else str(path)
    return Source(
        name=node.text_of("name"),
        path=located,
        sha256=node.text_of("sha256"),
        licence=node.text_of("licence"),
        consent=node.text_of("consent"),
        origin=node.text_of("origin"),
        use=tuple(sorted((text for text, _ in node.texts_of("use")), reverse=True)),
        kind=node.text_of("format") or kind_of(uri),
        about=_build_provenance(node),
        columns={role: column.text for role, column in columns.members.items()} if columns is not None else {},
        guards=_build_guards(node, {guard.name: guard.action for guard in policy.guards}),
    )


def _build_provenance(node: Node) -> Provenance:
    collected, croissant = node.get("collected"), node.get("croissant")
    return Provenance(
        publisher=node.text_of("publisher"),
        basis=node.text_of("basis"),
        collected=(collected.text_of("from"), collected.text_of("to")) if collected is not None else ("", ""),
        languages=tuple(text for text, _ in node.texts_of("languages")),
        limits=tuple(text.strip() for text, _ in node.texts_of("limits")),
        revision=node.text_of("revision"),
        croissant=str(resolve(croissant)) if croissant is not None else "",
    )


def build_policy(node: Node | None) -> DataPolicy:
    """Return the data policy of the joined `data` of all layers; without any, the defaults of the record."""
    default = DataPolicy()
    if node is None:
        return default
    share = node.number_of("max_bad_rows")
    return DataPolicy(
        admission=_build_admission(node.get("admission")),
        guards=_build_guards(node, {}),
        max_bad_rows=default.max_bad_rows if share is None else share,
        max_flagged=node.number_of("max_flagged"),
        longest_row=node.whole_of("longest_row", default.longest_row),
    )


def _build_admission(node: Node | None) -> Admission:
    default = Admission()
    if node is None:
        return default
    licences, required = node.get("licences"), node.get("required")
    allow, forbid = (licences.texts_of(key) if licences is not None else () for key in ("allow", "forbid"))
    return Admission(
        allow=tuple(_key(text) for text, _ in allow),
        forbid=tuple(_key(text) for text, _ in forbid),
        otherwise=licences.text_of("otherwise", default.otherwise) if licences is not None else default.otherwise,
        required=default.required if required is None else tuple(text for text, _ in node.texts_of("required")),
        on_problem=node.text_of("on_problem", default.on_problem),
    )


def _key(text: str) -> str:
    """Return a licence of the policy as SPDX spells it now; the beginning of some stays as it is."""
    return text if text.endswith("*") else parse(text).name


def _build_guards(node: Node, below: Mapping[str, str]) -> tuple[GuardSettings, ...]:
    """Return the settings of guards; `below` holds actions of a policy for those that are given without one."""
    found = (member for item in node.items_of("guards") for member in item.members.items())
    return tuple(_build_settings(name, settings, below.get(name, FLAG)) for name, settings in found)


def _build_settings(name: str, node: Node, action: str) -> GuardSettings:
    rules = node.get("rules")
    return GuardSettings(
        name=name,
        action=node.text_of("action", action),
        rules={rule: to.text for rule, to in rules.members.items()} if rules is not None else {},
        options={key: value.json for key, value in node.members.items() if key not in ("action", "rules")},
    )


def build_screen(node: Node | None) -> Screen | None:
    """Return the screen of a stage, or None."""
    if node is None:
        return None
    return Screen(
        name=node.text_of("method"),
        anchors=(node.text_of("harmful"), node.text_of("safe")),
        options={key: value.json for key, value in node.members.items() if key not in SCREEN_KEYS},
        flag_above=node.number_of("flag_above"),
        flag_top=node.number_of("flag_top"),
        action=node.text_of("action", "report"),
        max_flagged=node.number_of("max_flagged"),
    )


def source_content(source: Source, croissant: str) -> Mapping[str, JSON]:
    """Return what a source says, without where it lies; `croissant` is the digest of its record, or empty."""
    said: dict[str, JSON] = {"columns": dict(source.columns)} if source.columns else {}
    said |= {"guards": [guard.identity for guard in source.guards]} if source.guards else {}
    said |= {"croissant": croissant} if croissant else {}
    # A hub dataset lies nowhere else than its name says.
    said |= {"uri": source.path} if source.path.startswith(HUB_PREFIX) else {}
    return {**source.declarations, **said}
