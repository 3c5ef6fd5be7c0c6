"""Responses of models to prompts, kept by (weights, prompt, decoding): resuming and reusing are the same thing.

A file per worker, one row per response, appended and flushed batch by batch; a torn last line is ignored. So a killed
evaluation loses at most one batch, and a baseline that was measured before costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import canonical, digest
from safetune.core.evidence import Prompt
from safetune.core.playbook import Decoding, Suite


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt with its decoding settings; equal requests to equal weights have one response."""

    digest: str
    prompt: str
    decoding: Decoding

    @property
    def row(self) -> bytes:
        """The line of a requests file that the worker reads."""
        return canonical(
            {
                "digest": self.digest,
                "prompt": self.prompt,
                "system_prompt": self.decoding.system_prompt,
                "max_new_tokens": self.decoding.max_new_tokens,
            }
        )


def request(prompt: Prompt, suite: Suite) -> Request:
    """Return the request that a suite makes of a model for one prompt."""
    identity = digest({"prompt": prompt.text, "decoding": suite.decoding.identity})
    return Request(identity, prompt.text, suite.decoding)


class Responses:
    """The responses of one model, read from all files of its folder."""

    def __init__(self, root: Path, weights: str) -> None:
        self.folder = root / digest({"weights": weights})[:32]

    def read(self) -> Mapping[str, str]:
        """Return every whole response by request digest; the first one stands when a prompt was answered twice."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                try:
                    row = json.loads(line)
                    found.setdefault(str(row["digest"]), str(row["output"]))
                except (ValueError, KeyError, TypeError):
                    continue  # torn or foreign: the prompt is simply asked again
        return found

    def missing(self, wanted: Iterable[Request]) -> tuple[Request, ...]:
        """Return the distinct requests that have no response yet."""
        have = self.read()
        return tuple({r.digest: r for r in wanted if r.digest not in have}.values())

    def file(self, shard: int) -> Path:
        """Return the file that worker number `shard` appends to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"shard-{shard}.jsonl"
