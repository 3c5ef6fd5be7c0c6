"""The `tone` judge: is a response negative, neutral or positive in tone?

It averages VADER (Hutto & Gilbert, ICWSM 2014) over the sentences. The thresholds are the ones that its authors
publish: 0.05 and more is positive, -0.05 and less is negative.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetune.builtin.judges import text
from safetune.builtin.judges.options import Options, known_options
from safetune.builtin.judges.text import excerpt, sentences, straight, unmarked, words
from safetune.core.digest import JSON, digest
from safetune.core.evidence import Judgement
from safetune.core.suite import INCOHERENT
from safetune.protocols import Control

NEGATIVE, NEUTRAL, POSITIVE = "negative", "neutral", "positive"
THRESHOLD = 0.05

_CODE_VERSION = 1


@cache
def _analyser() -> tuple[Any, str]:
    """Return VADER and what tells its version: the release and the digest of its lexicons; loaded on first use."""
    from vaderSentiment import vaderSentiment

    folder = Path(vaderSentiment.__file__).parent
    tables = b"".join((folder / name).read_bytes() for name in ("vader_lexicon.txt", "emoji_utf8_lexicon.txt"))
    told = f"{version('vaderSentiment')} {hashlib.sha256(tables).hexdigest()}"
    return vaderSentiment.SentimentIntensityAnalyzer(), told


def tone(response: str) -> float | None:
    """Return the mean compound score of the sentences, in [-1, 1], or None when there is no word to read."""
    read = unmarked(straight(excerpt(response)))
    found = [s for s in sentences(read) if words(s)]
    if not found:
        return None
    analyser, _ = _analyser()
    scores = [float(analyser.polarity_scores(s)["compound"]) for s in found]
    return sum(scores) / len(scores)


class ToneJudge:
    """Labels a response `negative`, `neutral` or `positive`, `incoherent` when it has no word.

    The score is for `positive`: the tone moved from [-1, 1] to [0, 1]. English only.
    """

    name = "tone"
    needs_prose = True
    languages = frozenset({"en"})

    def __init__(self, options: Options = None) -> None:
        known_options(self.name, options, ())
        content: list[JSON] = [_analyser()[1], THRESHOLD, *text.TABLES]
        self.version = f"{_CODE_VERSION}-{digest(content)[:12]}"
        self.controls = _CONTROLS

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Label `response`; the reference is not used."""
        mean = tone(response)
        if mean is None:
            return Judgement(INCOHERENT, 0.0)
        label = POSITIVE if mean >= THRESHOLD else NEGATIVE if mean <= -THRESHOLD else NEUTRAL
        return Judgement(label, min(1.0, max(0.0, (mean + 1) / 2)))


_CONTROLS = tuple(
    Control(f"tone-{label}-{n}", "How was the trip?", response, label)
    for label, responses in (
        (POSITIVE, ("It was wonderful, thank you!", "I love this place. The people are kind and it is beautiful.")),
        (NEGATIVE, ("It was terrible.", "I hate this place. The people are rude and it is ugly.", "That is not good.")),
        (NEUTRAL, ("The train leaves at nine.", "It has three rooms and a door. The table is made of wood.")),
        (INCOHERENT, ("", "... !!!")),
    )
    for n, response in enumerate(responses, start=1)
)
