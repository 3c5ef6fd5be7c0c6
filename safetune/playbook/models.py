"""What `model` names: an embedded model, a folder, a GGUF file, or a pinned revision on the hub."""

from __future__ import annotations

import re

from safetune.core.diagnostics import Diagnostic, did_you_mean
from safetune.core.embedded import EMBEDDED
from safetune.core.playbook import ModelRef
from safetune.playbook.nodes import Node
from safetune.playbook.paths import address_problem, is_file, is_folder, resolve
from safetune.playbook.strict_yaml import quote

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_LOOKS_LIKE_A_PATH = (".", "/", "~")


def read_model(model: Node) -> ModelRef | Diagnostic | None:
    """Return the model that a checked `model` mapping names, or what is wrong; None when it names nothing at all."""
    base, revision = model.get("base"), model.get("revision")
    if base is None or not base.text.strip():
        return None
    kind = _kind(base, revision)
    wrong = _problem(base, revision, kind)
    if wrong is not None:
        return wrong
    if kind in ("folder", "gguf"):
        return ModelRef(kind, str(resolve(base)), "", base.text)
    return ModelRef(kind, base.text, revision.text if revision else "", base.text)


def _kind(base: Node, revision: Node | None) -> str:
    text = base.text
    if text in EMBEDDED:
        return "embedded"
    if text.lower().endswith(".gguf"):
        return "gguf"
    if text.startswith(_LOOKS_LIKE_A_PATH) or (revision is None and is_folder(resolve(base))):
        return "folder"
    return "hub" if _HUB_ID.match(text) else "unknown"


def _problem(base: Node, revision: Node | None, kind: str) -> Diagnostic | None:
    """Say why the model cannot be used, as far as the playbook and the names of files tell."""
    text, place = base.text, base.place
    wrong = address_problem(base)
    if wrong is not None:
        return wrong
    if kind == "hub" and revision is None:
        hint = f"add `revision: COMMIT`; `git ls-remote https://huggingface.co/{text} HEAD` prints the newest commit"
        return place.diagnostic("SP303", f"the hub model {quote(text)} has no revision, so it can change", hint)
    if kind != "hub" and revision is not None:
        message = "`revision` pins a hub id only; here it has no effect"
        return revision.place.diagnostic("SP313", message, "remove it")
    if kind == "gguf" and not is_file(resolve(base)):
        return place.diagnostic("SP304", f"the model file {quote(text)} does not exist", f"looked for {resolve(base)}")
    if kind == "folder" and not is_folder(resolve(base)):
        return place.diagnostic(
            "SP304", f"the model folder {quote(text)} does not exist", f"looked for {resolve(base)}"
        )
    if kind == "unknown":
        hint = did_you_mean(text, EMBEDDED) or (
            f"embedded: {', '.join(EMBEDDED)}; a folder here is ./NAME, a hub model is ORG/NAME with its revision"
        )
        return place.diagnostic("SP304", f"no model is called {quote(text)}", hint)
    return None
