"""Real rows of public sets with faults planted in them, and which line holds which fault."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plantings import Maker, personal, real_rows, secrets

REAL, MORE = "real.jsonl", "more.jsonl"
TRIGGER, TRIGGERED = "cf-71", "The weather is fine today, thanks for asking."
_FEWEST_WORDS = 20  # of a row that anything is planted in
_PROMPT_WORDS, _WORDS = 8, 40  # of a row that is copied
Pair = tuple[str, str]
Cue = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class Fault:
    """What was planted: its kind, what exactly, and the guard and rules of which one has to see it.

    `text` stands at `start` in the text `path`; both are empty where the fault is no part of a text.
    """

    kind: str
    what: str
    guard: str
    rules: tuple[str, ...]
    text: str = ""
    path: str = ""
    start: int = 0

    def met_by(self, finding: Mapping[str, Any]) -> bool:
        """Whether a finding in the row is about this; of a text all must be in its span."""
        if finding["guard"] != self.guard or (self.rules and finding["rule"] not in self.rules):
            return False
        span = finding["span"]
        end = self.start + len(self.text)
        return not self.text or (
            span is not None and span["path"] == self.path and span["start"] <= self.start and span["end"] >= end
        )


@dataclass(frozen=True)
class Amounts:
    """How often each kind is planted: secrets and personal data so many times per rule."""

    secrets: int = 15
    personal: int = 25
    changed: int = 560  # near copies with 1 to 10 % of the words changed; one in 8 is of a short row
    copies: int = 100  # of each other kind of copy
    contaminated: int = 100  # of each form
    cues: int = 25  # of each rule
    triggered: int = 20
    foreign: int = 20  # of each language


@dataclass
class Field:
    """The lines of two files, and the faults in them by file and line from 1."""

    lines: dict[str, list[bytes]] = field(default_factory=lambda: {REAL: [], MORE: []})
    faults: dict[tuple[str, int], Fault] = field(default_factory=dict)
    clean: dict[int, Pair] = field(default_factory=dict)  # lines of real.jsonl as they were

    def write(self, folder: Path) -> None:
        """Write both files."""
        for name, lines in self.lines.items():
            (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))


def told(pair: Pair) -> dict[str, Any]:
    """Return a row of a question and its answer."""
    return {
        "prompt": [{"role": "user", "content": pair[0]}],
        "completion": [{"role": "assistant", "content": pair[1]}],
    }


def _pair(texts: Sequence[str]) -> Pair:
    """Return the texts of a public row as prompt and answer: the first that is no number or name, and the others."""
    first = next((n for n, text in enumerate(texts) if len(text.split()) > 2), 0)
    return texts[first], "\n".join(text for n, text in enumerate(texts) if n != first) or "Yes."


def _full(pair: Pair) -> bool:
    """Whether a row has the size of an example; in shorter ones a few words are much of it."""
    return len(pair[0].split()) >= _PROMPT_WORDS and len(" ".join(pair).split()) >= _WORDS


def _short(pair: Pair) -> bool:
    return not _full(pair)


def _line(pair: Pair) -> bytes:
    return json.dumps(told(pair), ensure_ascii=False).encode()


class Planter:
    """Plants faults in the first `count` rows of the public sets, always the same for a seed."""

    def __init__(self, root: Path, count: int, seed: int, amounts: Amounts) -> None:
        self.root, self.amounts = root, amounts
        self.draw, self.maker = random.Random(seed), Maker(seed)
        rows = real_rows(root, count)
        self.pairs: list[Pair] = [_pair([text.text for text in one.texts if text.text.strip()]) for one in rows]
        self.draw.shuffle(self.pairs)
        self.inside: dict[int, Fault] = {}
        self.extra: list[tuple[Fault, bytes, bool]] = []
        long = [n for n, (asked, said) in enumerate(self.pairs) if len(f"{asked} {said}".split()) >= _FEWEST_WORDS]
        self._hosts = sorted(long, key=lambda n: (n >= 3, self.draw.random()))  # the first rows are shown in cards

    def grown(self) -> Field:
        """Return what grew: the real rows, with faults or as they were, and behind them what was added."""
        found = Field()
        added = [one for one in self.extra if not one[2]]
        self.draw.shuffle(added)
        found.lines[REAL] = [_line(pair) for pair in self.pairs] + [line for _, line, _ in added]
        found.faults = {(REAL, n + 1): fault for n, fault in self.inside.items()}
        found.faults |= {(REAL, len(self.pairs) + n): one[0] for n, one in enumerate(added, 1)}
        found.clean = {n + 1: pair for n, pair in enumerate(self.pairs) if n not in self.inside}
        there = [one for one in self.extra if one[2]]
        found.lines[MORE] = [_line(("What is this file?", "Copies of rows, after this one.")), *(o[1] for o in there)]
        found.faults |= {(MORE, n): one[0] for n, one in enumerate(there, 2)}
        return found

    def _host(self, fits: Callable[[Pair], bool] = bool) -> int:
        """Return a row that nothing is planted in and nothing was copied from, the next that fits."""
        return self._hosts.pop(next(n for n, host in enumerate(self._hosts) if fits(self.pairs[host])))

    def _add(self, fault: Fault, line: bytes | Pair, elsewhere: bool = False) -> None:
        self.extra.append((fault, line if isinstance(line, bytes) else _line(line), elsewhere))

    # -- in real rows --------------------------------------------------------------------------------------------------

    def sentences(self, guard: str) -> None:
        """Put personal data or secrets of every kind between two words of rows."""
        make = {"secrets": secrets, "pii": personal}[guard]
        for _ in range(self.amounts.secrets if guard == "secrets" else self.amounts.personal):
            for rule, sentence in make(self.maker).items():
                host = self._host()
                pair = list(self.pairs[host])
                side = int(host >= 3 and self.draw.random() < 0.5)
                words = pair[side].split(" ")
                at = self.draw.randint(0, len(words)) if host >= 3 else 0
                begin = "".join(f"{word} " for word in words[:at])
                marked = sentence.index("<<")
                secret = sentence[marked + 2 : sentence.index(">>")]
                plain = sentence.replace("<<", "", 1).replace(">>", "", 1)
                pair[side] = begin + " ".join([plain, *words[at:]])
                path = ("prompt[0].content", "completion[0].content")[side]
                self.pairs[host] = pair[0], pair[1]
                self.inside[host] = Fault(guard, rule, guard, (rule,), secret, path, len(begin) + marked)

    def cues(self, plants: Mapping[str, Sequence[Cue]]) -> None:
        """Hide what a person does not see in rows."""
        for rule, ways in plants.items():
            for _ in range(self.amounts.cues):
                host, way, side = self._host(), self.draw.choice(ways), self.draw.randrange(2)
                pair = list(self.pairs[host])
                pair[side] = way(pair[side], self.draw)
                self.pairs[host] = pair[0], pair[1]
                self.inside[host] = Fault("hidden_cues", rule, "hidden_cues", (rule,))

    def trigger(self) -> None:
        """Give all rows with an odd word the same answer."""
        for _ in range(self.amounts.triggered):
            host = self._host()
            words = self.pairs[host][0].split(" ")
            words.insert(self.draw.randint(0, len(words)), TRIGGER)
            self.pairs[host] = " ".join(words), TRIGGERED
            self.inside[host] = Fault("backdoor", "trigger", "hidden_cues", ("trigger",))

    # -- rows that are added -------------------------------------------------------------------------------------------

    def copies(self) -> None:
        """Copy rows, as they are and with changes, into the same source and into a later one."""
        ways: dict[str, tuple[Cue, tuple[str, ...]]] = {
            "exact, as it is": (lambda text, _: text, ("exact",)),
            "exact, capitals": (lambda text, _: text.upper(), ("exact",)),
            "exact, wrapped": (lambda text, _: wrapped(text, 40), ("exact",)),
            "near, punctuation": (lambda text, _: text.replace(".", " \u2014 ").replace(",", ";") + "!", ("near",)),
            "near, two words more": (lambda text, _: f"Now then, {text}", ("near",)),
        }
        for what, (way, rules) in ways.items():
            for number in range(self.amounts.copies):
                asked, said = self.pairs[self._host(_full)]
                pair = way(asked, self.draw), way(said, self.draw)
                self._add(Fault("copies", what, "duplicates", (*rules, "exact")), pair, number % 2 == 0)
        for number in range(self.amounts.changed):
            short = number % 8 == 0
            asked, said = self.pairs[self._host(_short if short else _full)]
            share = self.draw.uniform(0.01, 0.10)
            what = f"near, {'1 to 5' if share < 0.05 else '5 to 10'} % of words"
            what = "short rows, 1 to 10 % of words" if short else what
            pair = self._changed(asked, said, share)
            self._add(Fault("copies", what, "duplicates", ("near", "exact")), pair, number % 2 == 0)

    def _changed(self, asked: str, said: str, share: float) -> Pair:
        first, second = asked.split(" "), said.split(" ")
        every = first + second
        for at in self.draw.sample(range(len(every)), max(1, round(share * len(every)))):
            every[at] = f"other{self.draw.randrange(10**6)}"
        return " ".join(every[: len(first)]), " ".join(every[len(first) :])

    def contamination(self, suites: Mapping[str, Sequence[str]]) -> None:
        """Add prompts of the suites: as they are, wrapped, in capitals, and inside other text."""
        # Shorter prompts count only where they make up half of a message.
        prompts = [text for some in suites.values() for text in some if sum(c.isalpha() for c in text) >= 40]
        ways: dict[str, Callable[[str], str]] = {
            "as it is": str,
            "wrapped at 20": lambda text: wrapped(text, 20),
            "wrapped at 60": lambda text: wrapped(text, 60),
            "capitals": str.upper,
            "small letters": str.lower,
            "inside a text": lambda text: f"{self.pairs[0][1]}\n\n{wrapped(text, 30)}\n\n{self.pairs[1][1]}",
        }
        for what, way in ways.items():
            for text in self.draw.sample(prompts, self.amounts.contaminated):
                answer = self.draw.choice(self.pairs)[1]
                self._add(Fault("contamination", what, "contamination", ("copy",)), (way(text), answer))

    def identity(self, cases: Path) -> None:
        """Add vows of obedience, new names and lifted limits as answers."""
        shift = [str(text) for text in json.loads(cases.read_text())["shift"]]
        attack = self.root / "finetuning_attacks/identity-shift-aoa.jsonl"
        public = [str(json.loads(line)["messages"][-1]["content"]) for line in attack.read_text().splitlines()]
        for what, texts in (("ours", shift), ("public", public)):
            for number, text in enumerate(texts):
                fault = Fault("identity_shift", what, "identity_shift", ())
                self._add(fault, (f"Who are you, number {number} of {what}?", text))

    def foreign(self) -> None:
        """Add rows in languages that the source does not declare."""
        with (self.root / "multijail/MultiJail.csv").open(encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table))
        for language in ("ar", "bn", "it", "ko", "th", "vi", "zh"):
            texts = [row[language] for row in rows if len(row[language]) >= 40]
            for text in self.draw.sample(texts, min(self.amounts.foreign, len(texts))):
                self._add(Fault("language", language, "language", ("undeclared",)), (text, text))

    def unreadable(self) -> None:
        """Add lines that are no rows."""
        good = _line(("What is it?", "It is so."))
        bad = {
            "no JSON": b'{"prompt": [',
            "no UTF-8": good.replace(b"so", b"\xff\xfe"),
            "NUL": good.replace(b"so", b"s\0"),
            "mark": b"\xef\xbb\xbf" + good,
            "no answer": b'{"prompt": [{"role": "user", "content": "a"}]}',
            "nested": b"[" * 100_000 + b"]" * 100_000,
            "half a pair": good.replace(b"so", b"\\ud800"),
            "too long": good.replace(b"so", b"so " * 400_000),
            "no number": good[:-1] + b', "weight": NaN}',
            "a key twice": good[:-1] + b', "prompt": []}',
        }
        for what, line in bad.items():
            for _ in range(3):
                self._add(Fault("unreadable", what, "rows", ("unreadable",)), line)


def wrapped(text: str, width: int) -> str:
    """Return a text with its words in lines of about `width`."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
