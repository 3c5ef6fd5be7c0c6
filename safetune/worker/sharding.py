"""One generation job in several processes: who does which share, and how the first one knows that all are done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from safetune.core.errors import RunError, SafetuneError

_LONGEST = timedelta(days=7)  # that one process may wait for another; the launcher ends all when one dies
_SAID = 512  # bytes of an error that travel to the first process


@dataclass(frozen=True, slots=True)
class Rank:
    """This process among those of the job: its number, and how many there are."""

    number: int = 0
    count: int = 1

    def file(self, path: Path) -> Path:
        """Return the response file of this process: that of the job for the first, `-rankN` before the suffix else."""
        return path.with_name(f"{path.stem}-rank{self.number}{path.suffix}") if self.number else path

    def files(self, path: Path) -> list[Path]:
        """Return the response files of all processes, of an earlier run with more of them as well."""
        return [path, *sorted(path.parent.glob(f"{path.stem}-rank*{path.suffix}"))]


def rank(job: Mapping[str, Any]) -> Rank:
    """Return the place of this process.

    Raises:
        RunError: when the launcher started another number of processes than the job says; accelerate can start one and
            say nothing.
    """
    number, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if count != int(job.get("world_size", 1)):
        raise RunError(
            f"the launcher started {count} process(es), the job asks for {job.get('world_size', 1)}",
            hint="check `launch` in the playbook and its accelerate config file",
        )
    return Rank(number, count)


@contextmanager
def together(me: Rank) -> Iterator[None]:
    """Do a share of the work; the block ends in every process when it has ended in all of them.

    Raises:
        RunError: in all processes, when it failed in one.
        Whatever the block raised, in the process where it failed.
    """
    if me.count == 1:
        yield
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=_LONGEST)
    try:
        if dist.get_world_size() != me.count:
            raise RunError(f"{dist.get_world_size()} process(es) found each other, the job asks for {me.count}")
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # it is raised again once the others know
            failure = error
        said = _gather("" if failure is None else _words(failure), me.count)
        if failure is not None:
            raise failure
        if broken := [(number, words) for number, words in enumerate(said) if words]:
            raise RunError(f"process {broken[0][0]} of {me.count}: {broken[0][1]}", hint="see the worker log")
    finally:
        dist.destroy_process_group()


def _words(error: Exception) -> str:
    return error.message if isinstance(error, SafetuneError) else f"{type(error).__name__}: {error}"


def _gather(words: str, count: int) -> list[str]:
    """Return what every process has to say, in order; returns once all have said it."""
    import torch
    import torch.distributed as dist

    data = words.encode()[:_SAID].ljust(_SAID, b"\0")
    all_said = [torch.zeros(_SAID, dtype=torch.uint8) for _ in range(count)]
    dist.all_gather(all_said, torch.tensor(list(data), dtype=torch.uint8))
    return [bytes(said.tolist()).rstrip(b"\0").decode(errors="ignore") for said in all_said]
