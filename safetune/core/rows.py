"""The shapes of training rows: TRL's conversational formats, checked without any library.

    {"prompt": [messages], "completion": [messages]}                    supervised; the loss is on the completion
    {"messages": [messages]}                                            supervised; the loss is on every token
    {"prompt": [messages], "chosen": [messages], "rejected": [messages]}   preferences

A message is {"role": "system" | "user" | "assistant", "content": "text"} and nothing else: what a template may show
and no guard has seen must not train a model.
"""

from __future__ import annotations

from collections.abc import Mapping

COMPLETION = ("prompt", "completion")
MESSAGES = ("messages",)
PREFERENCE = ("prompt", "chosen", "rejected")

_ROLES = ("system", "user", "assistant")


def shape(row: Mapping[str, object]) -> tuple[str, ...] | None:
    """Return the columns of the shape that `row` has, or None when it has none of them."""
    if "prompt" in row:
        if "chosen" in row and "rejected" in row:
            return PREFERENCE
        if "completion" in row:
            return COMPLETION
    return MESSAGES if "messages" in row else None


def problem(row: Mapping[str, object], *allowed: tuple[str, ...]) -> str:
    """Say what keeps `row` from being used as one of the `allowed` shapes, or return an empty string.

    The last part (completion, chosen, rejected, or the last message) must be the assistant's: that is what is learnt.
    """
    found = shape(row)
    if found is None or found not in allowed:
        wanted = " or ".join(" + ".join(f"`{c}`" for c in columns) for columns in allowed)
        known = [c for c in dict.fromkeys((*PREFERENCE, *COMPLETION, *MESSAGES)) if c in row]
        return f"a row here needs {wanted}; this one has {', '.join(known) or 'none of these'}"
    for column in found:
        wrong = _message_problem(row[column])
        if wrong:
            return f"`{column}` {wrong}"
    for column in found[1:] or found:
        if last_role(row[column]) != "assistant":
            return f"the last message of `{column}` is not the assistant's"
    return ""


def last_role(messages: object) -> str:
    """Return the role of the last message of a checked list of messages."""
    last = messages[-1] if isinstance(messages, list | tuple) and messages else {}
    return str(last.get("role", "")) if isinstance(last, Mapping) else ""


def _message_problem(value: object) -> str:
    if not isinstance(value, list | tuple) or not value:
        return "must be a list of messages with at least one"
    for message in value:
        # The type itself is told much quicker than that something is a mapping.
        known = type(message) is dict or isinstance(message, Mapping)
        if not known or not isinstance(message.get("content"), str):
            return "has a message without a text `content`"
        if message.get("role") not in _ROLES:
            return f"has a message with an unknown role; known: {', '.join(_ROLES)}"
        if len(message) != 2:
            return "has a message with more than `role` and `content`; no guard looks at anything else"
    return ""
