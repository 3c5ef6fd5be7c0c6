"""The texts of a row: taken out with their places, and put back when spans of them are redacted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from safetune.core.digest import JSON
from safetune.core.rows import shape
from safetune.protocols import Text

_PLACE = re.compile(r"([^\[\]]+)\[(\d+)\]\.content")

# The places of most texts, made once.
_FIRST = {column: f"{column}[0].content" for column in ("prompt", "completion", "chosen", "rejected")}

Cut = tuple[int, int, str]  # from, to before, what stands there instead


def learnt(content: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Return what of a checked row a model can learn: the columns of its shape. Ids are of these, and nothing else is
    stored.
    """
    columns = shape(content) or ()
    return content if len(columns) == len(content) else {column: content[column] for column in columns}


def texts_of(content: Mapping[str, JSON]) -> tuple[Text, ...]:
    """Return the texts of a checked row in their order: message after message, column after column."""
    found = []
    for column in shape(content) or ():
        messages = content[column]
        if not isinstance(messages, list | tuple):
            continue
        for number, message in enumerate(messages):
            if type(message) is dict or isinstance(message, Mapping):  # the first is the rule, and quicker to tell
                place = _FIRST.get(column) if not number else None
                text = message.get("content", "")
                found.append(Text(place or f"{column}[{number}].content", str(message.get("role", "")), str(text)))
    return tuple(found)


def redacted(content: Mapping[str, JSON], cuts: Mapping[str, Sequence[Cut]]) -> Mapping[str, JSON]:
    """Return the row with spans replaced; `cuts` are by the path of the text.

    Raises:
        ValueError: for a path that is not one of the row's texts.
    """
    changed = dict(content)
    for path, spans in cuts.items():
        place = _PLACE.fullmatch(path)
        messages = changed.get(place[1]) if place else None
        if place is None or not isinstance(messages, list | tuple) or int(place[2]) >= len(messages):
            raise ValueError(f"{path} is no text of the row")
        number = int(place[2])
        message = messages[number]
        if not isinstance(message, Mapping):
            raise ValueError(f"{path} is no text of the row")
        with_labels = {**message, "content": _cut(str(message.get("content", "")), spans)}
        changed[place[1]] = [with_labels if n == number else m for n, m in enumerate(messages)]
    return changed


def _cut(text: str, spans: Sequence[Cut]) -> str:
    """Replace spans from the end to the beginning; of overlapping ones the label of the first, and all of both go."""
    joined: list[Cut] = []
    for start, end, label in sorted(spans):
        if joined and start < joined[-1][1]:
            first, until, kept = joined[-1]
            joined[-1] = first, max(until, end), kept
        else:
            joined.append((start, end, label))
    for start, end, label in reversed(joined):
        text = text[:start] + label + text[end:]
    return text
