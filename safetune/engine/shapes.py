"""The fields of every kind of ledger line, and their types: what a line must hold before its meaning is judged."""

from __future__ import annotations

from collections.abc import Mapping

from safetune.core.events import Event

_SHAPES: Mapping[str, Mapping[str, type]] = {
    "started": dict.fromkeys(("run", "playbook", "playbook_digest", "plan"), str),
    "finished": {"run": str, "exit_code": int},
    "admitted": {"stage_key": str, "sources": list},
    "trained": {**dict.fromkeys(("stage_key", "sprint", "stage", "checkpoint", "parent"), str), "figures": dict},
    "screened": {
        **dict.fromkeys(("stage_key", "mixture", "scores"), str),
        **dict.fromkeys(("scored", "flagged"), int),
        "share": float,
        "screen": dict,
    },
    "withdrawn": {**dict.fromkeys(("what", "name", "sha256", "reason"), str), "checkpoints": list},
    "failed": dict.fromkeys(("stage_key", "step", "message"), str),
    "evaluated": {**dict.fromkeys(("subject", "baseline", "evidence", "stage_key"), str), "suites": list},
    "gated": {
        **dict.fromkeys(
            ("stage_key", "checkpoint", "baseline", "guardrails", "evidence", "basis", "verdict", "reason"), str
        ),
        **dict.fromkeys(("playbook", "channel", "act"), str),
        **dict.fromkeys(("spent", "budget"), float),
        "attempt": int,
        "results": list,
    },
    "approved": {**dict.fromkeys(("checkpoint", "evidence", "role", "note"), str), "gate": int},
    "overridden": {**dict.fromkeys(("checkpoint", "evidence", "reason"), str), "gate": int},
    "promoted": {**dict.fromkeys(("channel", "checkpoint", "previous", "stage_key"), str), "gate": int},
    "rejected": dict.fromkeys(("checkpoint", "stage_key", "verdict", "rule"), str),
    "held": dict.fromkeys(("checkpoint", "stage_key", "verdict"), str),
    "rolled_back": {**dict.fromkeys(("channel", "previous", "target", "reason", "trigger"), str), "quarantined": list},
}
# Fields that came later, or are there only where they are needed.
_OPTIONAL: Mapping[str, type] = {
    "definitions": list,
    "basis": str,
    "gate": bool,
    "playbook": str,
    "extended": dict,
    "changed": list,
    "mixture": str,
    "lineage": str,
    "as_of": int,
    "stages": list,
}


def misshapen(event: Event) -> tuple[str, ...]:
    """Return the names of the fields of a line as it was read that are missing or of another type than they must be."""
    wanted = _SHAPES.get(event.kind, {})
    wrong = [name for name, kind in wanted.items() if type(event.data.get(name)) is not kind]
    wrong += [n for n, kind in _OPTIONAL.items() if n not in wanted and type(event.data.get(n, kind())) is not kind]
    return tuple(wrong)
