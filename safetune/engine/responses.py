"""Responses of models to prompts, kept by (weights, generator, prompt, decoding): resuming and reusing are the same.

A file per worker and process, one row per response, appended and flushed batch by batch; a torn last line is ignored.
So a killed evaluation loses at most one batch, a baseline that was measured before costs nothing, and responses of one
kind of device or library version are never held against those of another.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, json_text
from safetune.core.errors import UsageError
from safetune.core.evidence import Cells, Prompt
from safetune.core.suite import LIKELIHOOD, Decoding, Named, Suite
from safetune.plugins import load, names
from safetune.state.atomic import machine_errors
from safetune.state.device import generator
from safetune.state.index import Index
from safetune.state.lines import LineFile, Lines

_OPEN = 64  # files that are kept open; what is in further ones is copied into one that has no name


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt as a model is to be asked; equal requests to equal weights have one response."""

    digest: str
    prompt: str
    decoding: Decoding
    also: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def row(self) -> bytes:
        """The line of a requests file that the worker reads."""
        return self.row_with({})

    def row_with(self, more: Mapping[str, JSON]) -> bytes:
        """Return the line of a requests file with fields that say when it is asked, and never change the response."""
        system = self.decoding.system or None
        row: dict[str, JSON] = {
            "digest": self.digest,
            "prompt": self.prompt,
            "system": system,
            "max_new_tokens": self.decoding.max_new_tokens,
        }
        row |= {"chat_template": digest(self.decoding.chat_template)} if self.decoding.chat_template else {}
        return canonical({**row, **self.also, **more})


def request(prompt: Prompt, suite: Suite) -> Request:
    """Return the request that a suite makes of a model for one prompt.

    Only what differs from a plain user message enters the digest beside it, so that equal requests of different
    suites are one.
    """
    also: dict[str, JSON] = {}
    decoding = suite.decoding
    if suite.evaluator == LIKELIHOOD:
        also |= {"kind": LIKELIHOOD, "choices": list(prompt.choices)}
    if is_bare(prompt, suite):
        also["template"] = "none"
        decoding = replace(decoding, serving=None)
    elif suite.evaluator != LIKELIHOOD and (version := _decides_early(suite.judge)):
        also |= {"judge": suite.judge.name, "judge_version": version}
    if prompt.prefill:
        also["prefill"] = prompt.prefill
    if prompt.system is not None:
        also["system"] = prompt.system
    return ask(prompt.text, decoding, also)


def is_bare(prompt: Prompt, suite: Suite) -> bool:
    """Say whether a prompt is bare text, such as one of two sentences to compare: no template puts it into words."""
    return suite.evaluator == LIKELIHOOD and not prompt.text


def request_digests(suite: Suite) -> Callable[[Cells], bytes]:
    """Return what gives the digest (32 bytes) of a suite's request for the cells of a prompt.

    It is that of `request`; a plain one need not be made for it.
    """
    identity = canonical({"decoding": suite.decoding.identity, "prompt": ""}).removesuffix(b'""}')
    plain = suite.evaluator != LIKELIHOOD and not _decides_early(suite.judge)

    def digest_of(cells: Cells) -> bytes:
        *_, prefill, system = cells
        if not plain or prefill or system is not None:
            return bytes.fromhex(request(Prompt(*cells), suite).digest)
        return sha256(identity + json_text(cells[1]).encode() + b"}").digest()

    return digest_of


def _decides_early(judge: Named) -> str:
    """Return the version of a judge that says when generation may stop: the response rests on it. Empty for others.

    One with options is not asked: a worker makes judges by their name alone.
    """
    return "" if judge.options else _early_version(judge.name)


@cache
def _early_version(name: str) -> str:
    if name not in names("judge"):
        return ""
    try:
        judge = load("judge", name)
    except UsageError:  # it cannot be made without options
        return ""
    return str(getattr(judge, "version", "")) if hasattr(judge, "decided") else ""


def ask(text: str, decoding: Decoding, also: Mapping[str, JSON]) -> Request:
    """Return the request for a text; `also` holds the fields of the worker's row that differ from a plain prompt."""
    identity: dict[str, JSON] = {"prompt": text, "decoding": decoding.identity}
    if also:
        identity["also"] = dict(also)
    return Request(digest(identity), text, decoding, also)


class Responses:
    """The responses of one model on this kind of machine, read from all files of its folder."""

    def __init__(self, root: Path, weights: str) -> None:
        self.folder = root / digest({"weights": weights, "generator": generator()})[:32]

    def read(self) -> Mapping[str, str]:
        """Return every whole response by request digest; the first one stands when a prompt was answered twice.

        The responses stay in their files and are read from there one by one.

        Raises:
            MachineError: when a file cannot be read.
        """
        found = _Stored()
        with machine_errors(f"read responses in {self.folder}"):
            for path in sorted(p for p in self.folder.glob("*.jsonl") if p.is_file()):
                found.take(LineFile(path.open("rb")))
        return found

    def missing(self, wanted: Iterable[Request]) -> tuple[Request, ...]:
        """Return the distinct requests that have no response yet."""
        have = self.read()
        return tuple({r.digest: r for r in wanted if r.digest not in have}.values())

    def age(self) -> float:
        """Return how many seconds ago the newest response was written; 0 when there is none."""
        with machine_errors(f"read responses in {self.folder}"):
            newest = max((p.stat().st_mtime for p in self.folder.glob("*.jsonl")), default=None)
        return 0.0 if newest is None else time.time() - newest

    def forget(self) -> None:
        """Remove all responses of this model.

        Raises:
            MachineError: when the machine refuses.
        """
        with machine_errors(f"remove responses in {self.folder}"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, shard: int) -> Path:
        """Return the file that worker number `shard` of this process appends to; no other process writes it.

        Raises:
            MachineError: when there can be no such folder.
        """
        with machine_errors(f"make {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"shard-{shard}-{os.getpid()}.jsonl"


class _Stored(Mapping[str, str]):
    """Responses that lie in files, by request digest."""

    def __init__(self) -> None:
        self._files: list[Lines[tuple[str, str]]] = []
        self._where = Index()  # number of the file, and of the line among those that are used of it

    def take(self, file: LineFile) -> None:
        """Take in the whole responses of one more file to the prompts that have none yet."""
        stays = len(self._files) < _OPEN
        if stays or len(self._files) == _OPEN:
            self._files.append(Lines(file if stays else LineFile.temporary(), response_of))
        lines, place = self._files[-1], 0
        for line in file.lines():
            key, _ = response_of(line) if line.endswith(b"\n") else ("", "")
            if key and self._where.get(key) is None:
                self._where.put(key, (len(self._files) - 1) << 32 | len(lines))
                row = line.removesuffix(b"\n")
                if stays:
                    lines.note(place, row)
                else:
                    lines.append(row)
            place += len(line)

    def __getitem__(self, key: str) -> str:
        where = self._where.get(key)
        if where is None:
            raise KeyError(key)
        return self._files[where >> 32][where & 0xFFFFFFFF][1]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._where.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return (key for lines in self._files for key, _ in lines)

    def __len__(self) -> int:
        return len(self._where)


def response_of(line: bytes) -> tuple[str, str]:
    """Return request digest and output of a row, or two empty texts: a torn or foreign one is simply asked again."""
    try:
        row = json.loads(line)
        key, output = row["digest"], row["output"]
        if isinstance(key, str) and isinstance(output, str):
            output.encode()
            return key, output
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return "", ""
