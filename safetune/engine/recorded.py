"""Recorded responses: judge and gate what some model answered elsewhere, without loading any model.

A row of the JSONL file is {"output": text} and either {"item_id": ..., "suite": ...} (the suite may be left out where
the id is found in one suite only) or {"prompt": text}. Rows of our own evidence fit as they are, and so do results of
Inspect, lm-evaluation-harness and garak, by their prompts. A prompt is only a text: it answers no request that has a
prefill or a system message beside it.
"""

from __future__ import annotations

import hashlib
import json
import stat
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import short
from safetune.core.errors import UsageError
from safetune.core.evidence import CANDIDATE, Prompt
from safetune.engine.importing import as_recorded, detect, read_results
from safetune.engine.measure import Measured
from safetune.engine.prompts import cells
from safetune.engine.responses import request, request_digests
from safetune.state.index import Index
from safetune.state.lines import LineFile, Lines, json_line

_HINT = 'a row is {"suite": ..., "item_id": ..., "output": ...} or {"prompt": ..., "output": ...}'
_MARKS = ("entry_type", "doc_id", "schema", "eval")  # what results of other tools begin with, and no row of ours
_TWICE = 0
_NAMED, _LONG_ID = 10, 80  # ids of missing responses that are named, and characters of each
_WHICH = 'name the suite: "suite" in each row, or --suite NAME for a file that is about one'


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file of responses: its name and identity, and its responses by request digest.

    `strays` counts rows that answer no prompt, and `unnamed` prompts that a row has the text of and yet does not
    answer: they have a prefill or a system message beside it. `unclear` counts those rows whose item id is in more than
    one suite. `missing` says per suite how many of its items have no response, and names the first.
    """

    name: str
    identity: str
    responses: Mapping[str, str]
    strays: int
    unnamed: int = 0
    unclear: int = 0
    missing: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name to show."""
        return f"{self.name}@{short(self.identity.removeprefix('recorded:'))}"

    @property
    def note(self) -> str:
        """What is worth knowing of it, or an empty string."""
        strays = f"{self.strays} row(s) of {self.name} answer no prompt of these suites" if self.strays else ""
        parts = (strays, _unclear(self.name, self.unclear), _unnamed(self.name, self.unnamed), *self.missing)
        return "; ".join(part for part in parts if part)


class Asked:
    """What suites ask, made once for all arms: equal requests have one number, found by digest, item id or prompt."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self.measured = measured
        self.digests = bytearray()  # of the request of each prompt
        self.numbers = array("I")  # of the request of each prompt: the place of the first prompt with that request
        self.begins: dict[str, int] = {}  # the place of the first prompt of each suite
        self.files: dict[str, str] = {}  # the names of the files that were read, by the SHA-256 of their bytes
        self._by_digest: dict[bytes, int] = {}  # by half of the digest, which is enough to tell requests apart
        self._by_id: dict[str, Index] = {}  # for each suite
        for one in measured:
            self.begins[one.suite.name] = len(self.numbers)
            digest_of, first, put = (
                request_digests(one.suite),
                self._by_digest.setdefault,
                self._items(one.suite.name).put,
            )
            for prompt in cells(one.prompts):
                digest = digest_of(prompt)
                number = first(digest[:16], len(self.numbers))
                self.digests += digest
                self.numbers.append(number)
                put(prompt[0], number)
        self._alone: Index | None = None
        self._by_text: Index | None = None
        self._before = array("I")  # one more than the place of the prompt before this one with the same text, or 0
        self._bare = bytearray()  # by place: 1 where the request is nothing but the text

    def number(self, digest: str) -> int | None:
        """Return the number of a request, or None where no suite makes it."""
        return self._by_digest.get(bytes.fromhex(digest)[:16])

    def answered_by(self, row: Mapping[str, str]) -> Sequence[int]:
        """Return the numbers of the requests that a row answers."""
        if row["item_id"] and row["suite"]:
            items = self._by_id.get(row["suite"])
            number = items.get(row["item_id"]) if items else None
            return () if number is None else (number,)
        if row["item_id"]:
            alone = self._ids().get(row["item_id"])
            return () if alone is None or alone == _TWICE else (alone - 1,)
        return [self.numbers[place] for place in self._with_text(row["prompt"]) if self._bare[place]]

    def unclear(self, row: Mapping[str, str]) -> bool:
        """Say whether a row names an item id that several suites have, and no suite."""
        return bool(row["item_id"]) and not row["suite"] and self._ids().get(row["item_id"]) == _TWICE

    def contradicts(self, row: Mapping[str, str], numbers: Sequence[int]) -> bool:
        """Say whether a row names an item and has another prompt than that item."""
        if not row["item_id"] or not row["prompt"] or not numbers:
            return False
        return numbers[0] not in [self.numbers[place] for place in self._with_text(row["prompt"])]

    def left_out(self, row: Mapping[str, str]) -> Sequence[int]:
        """Return the numbers of the requests that have the text of a row's prompt and more than that."""
        if row["item_id"]:
            return ()
        return [self.numbers[place] for place in self._with_text(row["prompt"]) if not self._bare[place]]

    def _items(self, suite: str) -> Index:
        return self._by_id.setdefault(suite, Index())

    def _ids(self) -> Index:
        """Return numbers, plus one, by item id alone; `_TWICE` where more than one item has it."""
        if self._alone is None:
            self._alone = Index()
            for number, prompt in zip(self.numbers, self._prompts(), strict=True):
                known = self._alone.get(prompt.item_id)
                self._alone.put(prompt.item_id, number + 1 if known is None else _TWICE)
        return self._alone

    def _with_text(self, text: str) -> Iterator[int]:
        """Yield the places of the prompts with a text, the last one first."""
        if self._by_text is None:
            self._by_text = Index()
            pairs = ((one.suite, prompt) for one in self.measured for prompt in one.prompts)
            for place, (suite, prompt) in enumerate(pairs):
                last = self._by_text.get(prompt.text)
                self._before.append(0 if last is None else last + 1)
                self._by_text.put(prompt.text, place)
                self._bare.append(not prompt.prefill and prompt.system is None and not suite.decoding.system)
        last = self._by_text.get(text)
        more = 0 if last is None else last + 1
        while more:
            yield more - 1
            more = self._before[more - 1]

    def _prompts(self) -> Iterator[Prompt]:
        return (prompt for one in self.measured for prompt in one.prompts)


class _Answered(Mapping[str, str]):
    """Recorded responses by request digest, each read from the file when it is wanted."""

    def __init__(self, asked: Asked, file: LineFile) -> None:
        self._asked = asked
        self._rows: Lines[str] = Lines(file, _output)
        self._of = array("I", bytes(4 * len(asked.numbers)))  # one more than the place of the row, by number; or 0
        self._seen = bytearray(len(asked.numbers))  # by number: 1 where a row had the text alone of a longer request

    @property
    def unnamed(self) -> int:
        """How many prompts have more than a text, a row with that text, and no answer."""
        return sum(self._seen[number] and not self._of[number] for number in self._asked.numbers)

    def leave(self, numbers: Sequence[int]) -> None:
        """Note requests that a row has only the text of."""
        for number in numbers:
            self._seen[number] = 1

    def take(self, numbers: Sequence[int], place: int, line: bytes) -> bool:
        """Take in a row that answers these requests; say whether it agrees with what was there before."""
        self._rows.note(place, line)
        for number in numbers:
            if self._of[number] and self._rows[self._of[number] - 1] != _output(line):
                return False
            self._of[number] = self._of[number] or len(self._rows)
        return True

    def __getitem__(self, digest: str) -> str:
        number = self._asked.number(digest)
        if number is None or not self._of[number]:
            raise KeyError(digest)
        return self._rows[self._of[number] - 1]

    def get(self, digest: str, default: object = None) -> object:  # type: ignore[override]
        """Return the response to a request, or `default`."""
        number = self._asked.number(digest)
        place = 0 if number is None else self._of[number]
        return self._rows[place - 1] if place else default

    def missing(self) -> Iterator[str]:
        """Yield, for every suite with items that have no response, how many and the ids of the first."""
        for measured in self._asked.measured:
            begin = self._asked.begins[measured.suite.name]
            places = range(begin, begin + len(measured.prompts))
            left = [place - begin for place in places if not self._of[self._asked.numbers[place]]]
            if left:
                few = ", ".join(measured.prompts[at].item_id[:_LONG_ID] for at in left[:_NAMED])
                more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
                what = f"{len(left)} of {len(measured.prompts)} items of {measured.suite.name} have no response"
                yield f"{what}: {few}{more}"

    def in_order(self, measured: Measured) -> Iterator[tuple[str, str | None]]:
        """Yield the digest of every request of a suite, in its order, and the response to it or None."""
        digests, begin = self._asked.digests, self._asked.begins[measured.suite.name]
        coming, following = self._rows.raw(), 1  # rows as they stand in the file, which is mostly the same order
        for place in range(begin, begin + len(measured.prompts)):
            row = self._of[self._asked.numbers[place]]
            output = None
            if row and row == following:
                output, following = _output(next(coming)), following + 1
            elif row:
                output = self._rows[row - 1]
            yield digests[32 * place : 32 * place + 32].hex(), output

    def __iter__(self) -> Iterator[str]:
        prompts = ((m.suite, prompt) for m in self._asked.measured for prompt in m.prompts)
        for place, (suite, prompt) in enumerate(prompts):
            if self._asked.numbers[place] == place and self._of[place]:
                yield request(prompt, suite).digest

    def __len__(self) -> int:
        return sum(map(bool, self._of))


def read_recorded(path: Path, asked: Asked) -> Recorded:
    """Return what a file of responses holds for the prompts of some suites. The responses stay in the file.

    Raises:
        UsageError: naming file and line of a row that cannot be used; when no row answers a prompt of the suites; when
            the same bytes were read before, as another arm: responses that are compared with themselves never differ.
    """
    try:
        file, identity = _opened(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="check the file name") from error
    if twin := asked.files.get(identity):
        raise UsageError(
            f"{path.name} has the very bytes of {twin}: responses would be compared with themselves",
            hint="--baseline-recorded is for what the other model said",
        )
    foreign = _of_a_tool(path, file)
    found, strays, unclear = _Answered(asked, foreign or file), 0, 0
    for number, place, line, row in _rows(path.name, foreign or file, ours=not foreign):
        answered = asked.answered_by(row)
        strays += not answered
        unclear += not answered and asked.unclear(row)
        if not row["item_id"]:
            found.leave(asked.left_out(row))
        elif row["prompt"] and asked.contradicts(row, answered):
            raise UsageError(
                f"{path.name}:{number}: item {row['item_id'][:80]} asks something else than the prompt of this row",
                hint="they answer other prompts; `safetune prompts PLAYBOOK SUITE` prints those of a suite",
            )
        if answered and not found.take(answered, place, line):
            raise UsageError(f"{path.name}:{number}: a second, different response to the same item", hint=_HINT)
    if not found:
        names = ", ".join(m.suite.name for m in asked.measured)
        why = _unclear(path.name, unclear) or _unnamed(path.name, found.unnamed)
        hint = _WHICH if unclear else _HINT
        raise UsageError(f"no row of {path.name} answers a prompt of {names}{why and f'; {why}'}", hint=hint)
    asked.files[identity] = path.name
    missing = tuple(f"{path.name}: {text}" for text in found.missing())
    return Recorded(path.name, f"recorded:{identity}", found, strays, found.unnamed, unclear, missing)


def _unclear(name: str, count: int) -> str:
    return f"{count} row(s) of {name} have an item id that is in more than one suite; {_WHICH}" if count else ""


def _unnamed(name: str, count: int) -> str:
    what = f"{count} prompt(s) have a prefill or a system message"
    return f"{what}, and no row of {name} names them by suite and item_id" if count else ""


def _opened(path: Path) -> tuple[LineFile, str]:
    """Return a file and the SHA-256 of its bytes; what is no regular file, such as a pipe, is copied first."""
    stream = path.open("rb")
    if stat.S_ISREG(path.stat().st_mode):
        return LineFile(stream), hashlib.file_digest(stream, "sha256").hexdigest()
    copy, seen = LineFile.temporary(), hashlib.sha256()
    with stream:
        for line in stream:
            seen.update(line)
            copy.append(line.removesuffix(b"\n"))
    return copy, seen.hexdigest()


def _of_a_tool(path: Path, file: LineFile) -> LineFile | None:
    """Return the prompts and responses of a results file of another tool as rows; None when it is no such file."""
    first = next((line for line in file.lines() if line.strip()), b"")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        row = None  # perhaps a JSON text over many lines
    if isinstance(row, dict) and "output" in row and not any(mark in row for mark in _MARKS):
        return None  # a row of ours, so that the whole file need not be held to find out
    try:
        detect(path)
    except UsageError:
        return None
    rows = LineFile.temporary()
    for answer in as_recorded(read_results(path, "", CANDIDATE)):
        rows.append(json.dumps({"suite": "", "item_id": "", **answer}).encode())
    return rows


def _rows(name: str, file: LineFile, *, ours: bool) -> Iterator[tuple[int, int, bytes, Mapping[str, str]]]:
    """Yield every row with its number in the file, its place and its bytes."""
    place = 0
    for number, whole in enumerate(file.lines(), 1):
        line = whole.removesuffix(b"\n")
        if not line.isspace() and line:
            yield number, place, line, _row(name, number, line) if ours else json.loads(line)
        place += len(whole)


def _row(name: str, number: int, line: bytes) -> Mapping[str, str]:
    try:
        row = json_line(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}:{number}: not JSON", hint=_HINT) from error
    usable = isinstance(row, dict) and isinstance(row.get("output"), str)
    if not usable or not any(isinstance(row.get(key), str) and row[key] for key in ("item_id", "prompt")):
        raise UsageError(f"{name}:{number}: this is no recorded response", hint=_HINT)
    get = row.get
    suite, item_id, prompt, output = get("suite") or "", get("item_id") or "", get("prompt") or "", row["output"]
    known = {"suite": str(suite), "item_id": str(item_id), "prompt": str(prompt), "output": output}
    if line.isascii() and b"\\u" not in line:
        return known
    try:
        "".join(known.values()).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}:{number}: its text has half a surrogate pair", hint=_HINT) from error
    return known


def _output(line: bytes) -> str:
    return str(json_line(line)["output"])
