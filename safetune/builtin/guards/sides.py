"""The two sides of a row: what it asks and what it teaches to answer."""

from __future__ import annotations

from safetune.protocols import DataRow

_NOT_LEARNT = "rejected"


def asked(row: DataRow) -> str:
    """Return the texts of users and systems, in their order, a line each."""
    return "\n".join([text.text for text in row.texts if text.role != "assistant"])


def answered(row: DataRow) -> tuple[str, str]:
    """Return path and text of the last answer that is learnt, which a rejected one is not; empty without any."""
    for text in reversed(row.texts):
        if text.role == "assistant" and not text.path.startswith(_NOT_LEARNT):
            return text.path, text.text
    return "", ""
