"""SPDX licence expressions, parsed by license-expression; it is imported for what is not one plain common licence."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from safetune.core.admission import Licence
from safetune.core.diagnostics import did_you_mean

if TYPE_CHECKING:
    from license_expression import Licensing  # type: ignore[import-untyped]

# Importing the package takes as long as reading a playbook. These are known without it; a test holds them to it.
PLAIN = frozenset(
    {
        *("CC0-1.0", "CC-PDDC", "PDDL-1.0", "Unlicense", "0BSD", "MIT-0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0"),
        *("CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "ODC-By-1.0", "ODbL-1.0"),
        *("CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "O-UDA-1.0", "OGL-UK-3.0", "MIT", "Apache-2.0"),
        *("BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "BSL-1.0", "MPL-2.0"),
    }
)
# A licence that SPDX does not list, in the form that it gives to such names.
_OWN = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+\Z")
_HINT = "see spdx.org/licenses; a licence that is not listed there is LicenseRef-NAME"


class NotSPDX(ValueError):
    """A text is no SPDX expression; `hint` says what would be."""

    def __init__(self, why: str, hint: str = _HINT) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


def parse(text: str) -> Licence:
    """Return a licence expression; names are in the case of SPDX, deprecated ones in their present form.

    Raises:
        NotSPDX: when it is none, or names a licence that SPDX does not list.
    """
    text = text.strip()
    if text in PLAIN or _OWN.match(text):
        return Licence(text)
    licensing = _licensing()
    try:
        found = licensing.parse(text)
    except Exception as error:  # its parser raises errors of several kinds, some by accident
        raise NotSPDX("this is no SPDX expression", "write MIT, or MIT OR Apache-2.0") from error
    if found is None:
        raise NotSPDX("this is no SPDX expression")
    try:
        return _licence(found, licensing)
    except RecursionError as error:
        raise NotSPDX("the expression is nested too deeply") from error


@cache
def _licensing() -> Licensing:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def _licence(found: object, licensing: Licensing) -> Licence:
    from license_expression import LicenseSymbol, LicenseWithExceptionSymbol

    if isinstance(found, LicenseWithExceptionSymbol):
        exception = found.exception_symbol.key
        known = licensing.known_symbols.get(exception)
        if known is None or not known.is_exception:
            raise NotSPDX(f'SPDX lists no exception "{exception}"', _near(exception, licensing, True))
        return Licence(_key(found.license_symbol.key, licensing), exception)
    if isinstance(found, LicenseSymbol):
        return Licence(_key(found.key, licensing))
    parts = tuple(_licence(part, licensing) for part in found.args)  # type: ignore[attr-defined]
    return Licence(any_of=parts) if isinstance(found, licensing.OR) else Licence(all_of=parts)


def _key(key: str, licensing: Licensing) -> str:
    known = licensing.known_symbols.get(key)
    if _OWN.match(key) or (known is not None and not known.is_exception):
        return key
    later = licensing.known_symbols.get(key.removesuffix("+"))  # `+` allows later versions beside the one that is named
    if later is not None and not later.is_exception:
        return str(later.key)
    raise NotSPDX(f'SPDX lists no licence "{key}"', _near(key, licensing, False))


def _near(key: str, licensing: Licensing, exception: bool) -> str:
    known = {
        name.casefold(): name
        for name, one in licensing.known_symbols.items()
        if one.is_exception is exception and not _OWN.match(name)
    }
    found = did_you_mean(key.casefold(), known)
    meant = found.removeprefix('did you mean "').removesuffix('"?')
    return f'did you mean "{known[meant]}"?' if found else _HINT
