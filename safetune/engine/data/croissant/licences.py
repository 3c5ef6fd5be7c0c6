"""Licences of a record as SPDX expressions: from keys, from addresses that everybody uses, from names as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_LONGEST = 1000
_CC = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)(?:/([a-z]{2,3}))?(?:/.*)?")
_BY_ADDRESS = (
    (re.compile(r"spdx\.org/licenses/([A-Za-z0-9.+-]+?)(?:\.html|\.json|\.txt)?"), ""),
    (re.compile(r"(?:choosealicense\.com/licenses|opensource\.org/licenses?)/([A-Za-z0-9.+-]+?)(?:\.html|\.php)?"), ""),
    (re.compile(r"creativecommons\.org/publicdomain/zero/1\.0(?:/.*)?"), "CC0-1.0"),
    (re.compile(r"apache\.org/licenses/LICENSE-2\.0(?:\.html|\.txt)?"), "Apache-2.0"),
    (re.compile(r"opendatacommons\.org/licenses/by(?:/.*)?"), "ODC-By-1.0"),
    (re.compile(r"opendatacommons\.org/licenses/odbl(?:/.*)?"), "ODbL-1.0"),
    (re.compile(r"opendatacommons\.org/licenses/pddl(?:/.*)?"), "PDDL-1.0"),
    (re.compile(r"cdla\.(?:dev|io)/permissive-2-0"), "CDLA-Permissive-2.0"),
    (re.compile(r"gnu\.org/licenses/((?:gpl|lgpl|agpl)-\d\.\d)(?:\.html|\.txt|\.en\.html)?"), "{}-only"),
)


def spdx(text: str) -> str:
    """Return the SPDX expression for a licence's key, expression or address; a text that is none of them as it is."""
    bare = re.sub(r"^https?://(?:www\.)?", "", text.strip())
    if bare == text.strip():
        return _expression(bare) or bare
    bare = bare.rstrip("/")
    if match := _CC.fullmatch(bare):
        ported = f"-{match[3].upper()}" if match[3] else ""
        return _expression(f"CC-{match[1].upper()}-{match[2]}{ported}") or text.strip()
    for pattern, key in _BY_ADDRESS:
        if match := pattern.fullmatch(bare):
            found = key.format(*match.groups()) if key else match[1]
            return _expression(found) or text.strip()
    return text.strip()


def together(licences: Iterable[str]) -> str:
    """Return the expression that all of the licences apply, each once."""
    single = list(dict.fromkeys(licences))
    if len(single) < 2:
        return single[0] if single else ""
    return " AND ".join(f"({one})" if " OR " in one or " AND " in one else one for one in single)


def same(one: str, other: str) -> bool:
    """Say whether two licences are the same, in whatever order an expression names them."""
    left, right = (_parsed(spdx(text)) for text in (one, other))
    if left is None or right is None:
        return spdx(one) == spdx(other)
    return bool(left.simplify() == right.simplify())


def _parsed(text: str) -> Any:
    """Return a valid SPDX expression, or None."""
    from license_expression import ExpressionError, get_spdx_licensing  # type: ignore[import-untyped]

    if not text.strip() or len(text) > _LONGEST:
        return None
    try:
        return get_spdx_licensing().parse(text, validate=True)
    except (ExpressionError, ValueError, RecursionError):
        return None


def _expression(text: str) -> str:
    """Return a valid SPDX expression with its keys as SPDX writes them, or nothing."""
    parsed = _parsed(text)
    return str(parsed.render()) if parsed is not None else ""


def simple(text: str) -> bool:
    """Say whether an expression is one key of the SPDX list, which has an address."""
    return (
        bool(re.fullmatch(r"[A-Za-z0-9.+-]+", text)) and not text.startswith("LicenseRef-") and bool(_expression(text))
    )
