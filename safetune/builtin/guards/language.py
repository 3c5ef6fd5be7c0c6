"""Rows in a language that their source does not declare; nothing is looked at where a source declares none.

Of each row its longest text is judged, by the model of the language judge: first a piece of it alone, and the whole
text only where the piece does not say what is declared. Short texts, code and doubtful cases are not judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from safetune.builtin.guards.settings import Options, known, number
from safetune.builtin.judges import language
from safetune.protocols import DataRow, Found, GuardSetup

UNDECLARED = "undeclared"
DEFAULT_CERTAIN = 0.7

_PIECE = 100  # characters that are looked at first
_LEAST = 40  # characters; a shorter text is not judged
_QUICK = 0.6  # probability from which the piece alone is believed when it says what is declared
_CODE = re.compile(r"[{};=]\s*\n|^\s*(?:def|class|import|#include|SELECT|<\?|public|function)\b", re.MULTILINE)
_MUCH_CODE = 3
_READ = 4000  # characters of a text that are looked at for code

# Languages that the small model mixes up, or that go by several codes: one for another is no finding.
_CLOSE = (
    frozenset({"no", "nb", "nn", "da"}),
    frozenset({"hr", "sr", "bs", "sh", "cnr"}),
    frozenset({"id", "ms", "jv", "su"}),
    frozenset({"zh", "yue", "wuu", "cmn"}),
    frozenset({"es", "gl", "ast", "ca"}),
    frozenset({"pt", "gl"}),
    frozenset({"hi", "mr", "ne", "bh", "mai"}),
    frozenset({"fa", "ps", "ur", "ckb"}),
    frozenset({"ar", "arz"}),
    frozenset({"cs", "sk"}),
    frozenset({"ru", "uk", "be", "bg", "mk"}),
    frozenset({"az", "tr", "azb"}),
    frozenset({"fil", "tl", "ceb"}),
    frozenset({"nl", "af"}),
    frozenset({"de", "nds", "als", "lb"}),
)


class LanguageGuard:
    """Flags rows in none of the declared languages. The option `certain`: from which probability on."""

    name = "language"
    version = "1"
    rules: tuple[str, ...] = (UNDECLARED,)
    plain = "rows in a language that their source does not declare"

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("certain",))
        self._certain = number(self.name, given, "certain", DEFAULT_CERTAIN, (0.5, 1.0))
        self._declared: frozenset[str] = frozenset()
        self._detect: Callable[[str], tuple[str, float]] = language.detect
        self._quick: Callable[[str], tuple[str, float]] = language.guess

    def begin(self, setup: GuardSetup) -> None:
        """Take the declared languages, and load the model where there are any.

        Raises:
            UsageError: when the model is not installed.
            IntegrityError: when the installed model is not the pinned one.
        """
        main = {code.replace("_", "-").split("-")[0].lower() for code in setup.source.about.languages}
        self._declared = frozenset(main.union(*(close for close in _CLOSE if close & main)))
        if self._declared:
            self._detect = language.detector()

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the rows whose longest text is in another language."""
        if not self._declared:
            return ()
        found = []
        for number_, row in enumerate(rows):
            if not row.texts:
                continue
            longest = max(row.texts, key=_length)
            if len(longest.text) >= _LEAST:
                code, probability = self._quick(longest.text[:_PIECE])
                if (code not in self._declared or probability < _QUICK) and (other := self._other(longest.text)):
                    found.append(Found(number_, UNDECLARED, longest.path, 0, len(longest.text), note=other))
        return found

    def end(self) -> Sequence[Found]:
        """Nothing is said of all rows together."""
        return ()

    def _other(self, text: str) -> str:
        """Return the language of a text that is surely none of the declared ones, or an empty string."""
        if len(_CODE.findall(text[:_READ])) >= _MUCH_CODE:
            return ""
        code, probability = self._detect(text)
        certain = code and code != language.UNDETERMINED and probability >= self._certain
        return code if certain and code not in self._declared else ""


def _length(one: object) -> int:
    return len(getattr(one, "text", ""))
