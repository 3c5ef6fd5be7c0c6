"""Mistakes of a playbook as SARIF 2.1.0, which code hosts show beside the line.

Format: OASIS, Static Analysis Results Interchange Format Version 2.1.0, https://docs.oasis-open.org/sarif/sarif/v2.1.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, PlaybookError, SafetuneError
from safetune.report.json_view import json_text
from safetune.report.untrusted import render_untrusted

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_CODE, _MESSAGE = 40, 1000
_FAMILIES = {
    "SP1": "a file that cannot be read as YAML",
    "SP2": "a key or a value that a playbook cannot have",
    "SP3": "a name, a path or a limit that does not hold",
    "SP4": "a file that a playbook extends",
    "SP5": "something that a playbook asks for, and that is not there as it must be",
}


def sarif_text(
    error: SafetuneError | None,
    folder: str = "",
    exit_code: ExitCode = ExitCode.DONE,
    problems: Sequence[Diagnostic] = (),
) -> str:
    """Return the whole document; without a mistake of the playbook or a problem of the survey it holds no result.

    Files below `folder`, the working folder, are named relative to it, as code hosts want them. An error that is no
    mistake of a playbook is a notification: it belongs to no line.
    """
    from safetune import __version__

    found = error.diagnostics if isinstance(error, PlaybookError) else tuple(problems)
    code = error.exit_code if error is not None else exit_code
    invocation: dict[str, object] = {"executionSuccessful": error is None and not found, "exitCode": int(code)}
    if error is not None and not isinstance(error, PlaybookError):
        text = f"{error.message} (hint: {error.hint})" if error.hint else error.message
        invocation["toolExecutionNotifications"] = [{"level": "error", "message": {"text": _text(text)}}]
    rules = list(dict.fromkeys(_rule_id(one) for one in found))
    driver = {"name": "safetune", "version": __version__, "rules": [_rule(rule) for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "results": [_result(one, rules, folder) for one in found],
    }
    return json_text({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}) + "\n"


def _rule_id(one: Diagnostic) -> str:
    return render_untrusted(one.code, _CODE) or "SP000"


def _rule(rule: str) -> Mapping[str, object]:
    about = _FAMILIES.get(rule[:3], "a mistake in a playbook")
    return {"id": rule, "shortDescription": {"text": about}, "defaultConfiguration": {"level": "error"}}


def _result(one: Diagnostic, rules: Sequence[str], folder: str) -> Mapping[str, object]:
    message = f"{one.message} (hint: {one.hint})" if one.hint else one.message
    region = {"startLine": max(one.line, 1), "startColumn": max(one.column, 1)}
    place: dict[str, object] = {"artifactLocation": {"uri": _uri(one.file, folder)}, "region": region}
    if one.excerpt.strip():
        snippet = {"text": render_untrusted(one.excerpt, _MESSAGE)}
        place["contextRegion"] = {"startLine": region["startLine"], "snippet": snippet}
    rule = _rule_id(one)
    return {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": "error",
        "message": {"text": _text(message)},
        "locations": [{"physicalLocation": place}],
    }


def _text(text: str) -> str:
    """Return a message. `[text](target)` would be a link in it (SARIF 2.1.0, 3.11.6)."""
    return render_untrusted(text, _MESSAGE).replace("](", "] (") or "no message"


def _uri(path: str, folder: str) -> str:
    """Return a path as a URI: relative where it lies below the folder or was given so."""
    below = f"{folder.rstrip('/')}/"
    if folder and path.startswith(below):
        path = path[len(below) :]
    shown = quote(path, errors="surrogatepass")
    return f"file://{shown}" if path.startswith("/") else shown or "unknown"
