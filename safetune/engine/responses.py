"""Responses of models to prompts, kept by (weights, generator, prompt, decoding): resuming and reusing are the same.

A file per worker and process, one row per response, appended and flushed batch by batch; a torn last line is ignored.
So a killed evaluation loses at most one batch, a baseline that was measured before costs nothing, and responses of one
kind of device or library version are never held against those of another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest
from safetune.core.evidence import Prompt
from safetune.core.suite import LIKELIHOOD, Decoding, Suite
from safetune.state.atomic import machine_errors
from safetune.state.device import generator


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
        system = self.decoding.system_prompt or None
        row: dict[str, JSON] = {
            "digest": self.digest,
            "prompt": self.prompt,
            "system": system,
            "max_new_tokens": self.decoding.max_new_tokens,
        }
        return canonical({**row, **self.also})


def request(prompt: Prompt, suite: Suite) -> Request:
    """Return the request that a suite makes of a model for one prompt.

    Only what differs from a plain user message enters the digest beside it, so that equal requests of different
    suites are one.
    """
    also: dict[str, JSON] = {}
    if suite.evaluator == LIKELIHOOD:
        also |= {"kind": LIKELIHOOD, "choices": list(prompt.choices)}
        also |= {} if prompt.text else {"template": "none"}
    if prompt.prefill:
        also["prefill"] = prompt.prefill
    if prompt.system is not None:
        also["system"] = prompt.system
    return ask(prompt.text, suite.decoding, also)


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

        Raises:
            MachineError: when a file cannot be read.
        """
        found: dict[str, str] = {}
        with machine_errors(f"read responses in {self.folder}"):
            for path in sorted(p for p in self.folder.glob("*.jsonl") if p.is_file()):
                for line in path.read_bytes().split(b"\n")[:-1]:
                    key, output = _response(line)
                    if key:
                        found.setdefault(key, output)
        return found

    def missing(self, wanted: Iterable[Request]) -> tuple[Request, ...]:
        """Return the distinct requests that have no response yet."""
        have = self.read()
        return tuple({r.digest: r for r in wanted if r.digest not in have}.values())

    def file(self, shard: int) -> Path:
        """Return the file that worker number `shard` of this process appends to; no other process writes it.

        Raises:
            MachineError: when there can be no such folder.
        """
        with machine_errors(f"make {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"shard-{shard}-{os.getpid()}.jsonl"


def _response(line: bytes) -> tuple[str, str]:
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
