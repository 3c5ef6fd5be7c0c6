"""What the judges that ask a model share: their options, and text that cannot pass for a part of the question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from safetune.builtin.judges.options import known_options
from safetune.builtin.judges.text import excerpt, pattern
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.protocols import Control, Respondent

# Text with which a model tells turns and roles apart: chat markers of Llama 2, Llama 3, Mistral and WildGuard, and the
# frames of the questions here. A tokenizer reads the first kind as special tokens wherever they stand.
_MARKERS = (r"<(?=\||/?s>|/?<?/?SYS>|unk>|pad>|/?(?:BEGIN|END)\b)", r"\[(?=/?[A-Z_]{2,}\])")
# What begins a part of any of the frames here, at the start of a line, whatever kind of line it is.
_HEADINGS = (
    *("User:", "Agent:", "Human user:", "AI assistant:", "Answers:", "Answer:", "Behavior:", "Generation:", "Rules:"),
    "---",
)
_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_STARTS = rf"(?:(?<=[{_BREAKS}])|\A)(?=[^\S{_BREAKS}]*(?:{'|'.join(map(re.escape, _HEADINGS))}))"
# What the version of a judge has to cover.
TABLES = str((_MARKERS, _STARTS))

_HUB_ID = r"[\w.-]+/[\w.-]+"
_COMMIT = r"[0-9a-f]{40}"
_LOOKS_LIKE_A_PATH = ("/", "./", "../", "~", ".\\")
_CONTROL_KEYS = frozenset({"prompt", "response", "label", "reference"})


def check(judge: str, options: Mapping[str, JSON], known: Sequence[str], needed: Sequence[str]) -> None:
    """Refuse options that a judge does not know, and the lack of those that it needs.

    Raises:
        UsageError: naming the first of them.
    """
    known_options(judge, options, known)
    for name in needed:
        if name not in options:
            raise UsageError(f"the judge {judge} needs the option {name}", hint=f"known options: {', '.join(known)}")


def text(judge: str, options: Mapping[str, JSON], name: str, default: str = "") -> str:
    """Return an option that is a text.

    Raises:
        UsageError: when it is none, or empty.
    """
    value = options.get(name, default)
    if not isinstance(value, str) or (name in options and not value.strip()):
        raise UsageError(f"the option {name} of the judge {judge} must be a text, not {value!r}")
    return value


def model(judge: str, options: Mapping[str, JSON]) -> Respondent:
    """Return the model that the options `model` and `revision` name: a folder, or a hub id with its commit.

    Raises:
        UsageError: when they name none, or one that could change.
    """
    named, revision = text(judge, options, "model"), text(judge, options, "revision")
    if named.startswith(_LOOKS_LIKE_A_PATH):
        if not PurePosixPath(named).is_absolute():
            raise UsageError(f"the model folder {named} of the judge {judge} must be written from the root: /...")
        if revision:
            raise UsageError(f"the judge {judge} reads a folder; `revision` pins a hub id only", hint="remove it")
        return Respondent("folder", named)
    if not re.fullmatch(_HUB_ID, named):
        raise UsageError(
            f"the model {named!r} of the judge {judge} is neither a folder (/...) nor a hub id (owner/name)"
        )
    if not re.fullmatch(_COMMIT, revision):
        hint = f"`git ls-remote https://huggingface.co/{named} HEAD` prints the newest commit"
        raise UsageError(f"the judge {judge} needs `revision`, the commit of {named} with 40 digits", hint=hint)
    return Respondent("hub", named, revision=revision)


def controls(judge: str, options: Mapping[str, JSON], own: tuple[Control, ...]) -> tuple[Control, ...]:
    """Return the controls that the option `controls` gives, or the judge's own where it is not there.

    Raises:
        UsageError: when it is no list of prompt, response and label.
    """
    given = options.get("controls")
    if given is None:
        return own
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise UsageError(f"the option controls of the judge {judge} must be a list of prompt, response and label")
    return tuple(_control(judge, n, row) for n, row in enumerate(given, 1))


def _control(judge: str, number: int, row: JSON) -> Control:
    if not isinstance(row, Mapping) or not {"prompt", "response", "label"} <= set(row) <= _CONTROL_KEYS:
        raise UsageError(
            f"control {number} of the judge {judge} needs prompt, response and label (and may have reference)"
        )
    texts = {key: value for key, value in row.items() if isinstance(value, str)}
    if len(texts) != len(row) or not texts["label"]:
        raise UsageError(f"control {number} of the judge {judge}: prompt, response, label and reference are texts")
    return Control(f"{judge}-{number:02d}", **texts)


def clean(given: str) -> str:
    """Return what a judge reads of a text, in characters that UTF-8 can hold."""
    return excerpt(given).encode("utf-8", "replace").decode("utf-8")


def harmless_in_frame(given: str) -> str:
    """Return a text that cannot close the frame it is put in, open another turn or stand for a heading of a frame.

    A marker gets a space after its first character; a line that begins with a heading gets `> ` before it.
    """
    found = clean(given)
    for marker in _MARKERS:
        found = pattern(marker).sub(lambda match: f"{match.group()} ", found)
    return pattern(f"(?i){_STARTS}").sub("> ", found)


def identity(respondent: Respondent) -> JSON:
    """Return what names a judge's model in the judge's version.

    A folder's path says nothing about its weights; the evidence names those by digest.
    """
    if respondent.kind == "folder":
        return ["folder"]
    return [respondent.kind, respondent.location, respondent.model, respondent.revision]
