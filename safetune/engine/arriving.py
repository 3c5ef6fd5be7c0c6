"""Responses while workers write them: what has arrived so far, read once and in whole lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from safetune.engine.responses import response_of
from safetune.state.atomic import machine_errors


class Arriving(Mapping[str, str]):
    """The responses of one model to some requests, by request digest; `refresh` takes in what came meanwhile.

    The first response that arrives stands. They are kept in memory: they are those of one evaluation.
    """

    def __init__(self, folder: Path, wanted: Collection[str]) -> None:
        self._folder, self._wanted = folder, wanted
        self._read: dict[Path, int] = {}  # bytes
        self._outputs: dict[str, str] = {}

    def refresh(self) -> None:
        """Take in the whole lines that all files of the folder gained.

        Raises:
            MachineError: when a file cannot be read.
        """
        with machine_errors(f"read responses in {self._folder}"):
            for path in sorted(self._folder.glob("*.jsonl")):
                if path.stat().st_size > self._read.setdefault(path, 0):
                    self._take(path)

    def _take(self, path: Path) -> None:
        with path.open("rb") as stream:
            stream.seek(self._read[path])
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # it is being written, or was torn; read again from its beginning
                self._read[path] += len(line)
                key, output = response_of(line)
                if key in self._wanted:
                    self._outputs.setdefault(key, output)

    def __getitem__(self, key: str) -> str:
        return self._outputs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)
