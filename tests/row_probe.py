"""Watches which rows really go through a model, without looking at anything that safetune records.

The text of every sequence that enters the decoder is read back from its token ids, and the rows in it are told by their
questions. `python -m row_probe JOBFOLDER` is a worker that is watched; it leaves `probe-RANK.json` in the job folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_QUESTION = re.compile(r"(sums|chat|anchor|pairs): what is (\d+) plus")

Row = tuple[str, int]


class Probe:
    """The rows of each optimizer step, counted, as (topic, number in its source)."""

    def __init__(self, model: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._now: Counter[Row] = Counter()
        self.steps: list[Counter[Row]] = []

    def watch(self, change: Callable[[Any, str, Any], None]) -> None:
        """Hook into the decoder and the end of steps; `change(object, name, value)` sets an attribute."""
        from transformers.models.llama.modeling_llama import LlamaModel

        from safetune.worker.progress import Progress

        forward, begin, end = LlamaModel.forward, Progress.on_train_begin, Progress.on_step_end

        def watched(model: Any, input_ids: Any = None, *rest: Any, **more: Any) -> Any:
            for text in self._tokenizer.batch_decode(input_ids):
                self._now.update((topic, int(n)) for topic, n in _QUESTION.findall(text))
            return forward(model, input_ids, *rest, **more)

        def on_train_begin(progress: Any, *rest: Any, **more: Any) -> None:
            self._now.clear()
            begin(progress, *rest, **more)

        def on_step_end(progress: Any, *rest: Any, **more: Any) -> None:
            self.steps.append(Counter(self._now))
            self._now.clear()
            end(progress, *rest, **more)

        change(LlamaModel, "forward", watched)
        change(Progress, "on_train_begin", on_train_begin)
        change(Progress, "on_step_end", on_step_end)


def main(folder: Path) -> int:
    """Do the job in `folder`, watched."""
    from safetune.worker.__main__ import main as work

    probe = Probe(Path(json.loads((folder / "job.json").read_bytes())["model"]["base"]))
    probe.watch(setattr)
    code = work(folder)
    steps = [[[topic, n, count] for (topic, n), count in step.items()] for step in probe.steps]
    (folder / f"probe-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(steps))
    return code


def read(folder: Path, rank: int) -> list[Counter[Row]]:
    """Return what the watched worker of a rank saw."""
    steps = json.loads((folder / f"probe-{rank}.json").read_bytes())
    return [Counter({(topic, n): count for topic, n, count in step}) for step in steps]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
