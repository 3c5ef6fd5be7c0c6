"""Rows through datatrove: `python guards_datatrove.py none|pii|duplicates ROWS.jsonl FOLDER`.

What a person would write: one task, one worker, its own reader and writer, its own settings. Of a row the texts of all
messages are joined, since a document of datatrove is one text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

BUCKETS = MinhashConfig().num_buckets


def adapted(_: Any, row: dict[str, Any], path: str, number: int | str) -> dict[str, Any]:
    """Return a document of a row: its texts, a line each; the row itself goes along."""
    text = "\n".join(message["content"] for column in ("prompt", "completion") for message in row[column])
    return {"text": text, "id": f"{path}/{number}", "metadata": {"row": row}}


def go(steps: list[PipelineStep], logs: Path, tasks: int = 1) -> None:
    """Run some steps one after the other in one process."""
    LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=str(logs)).run()


def main() -> None:
    """Do one of the jobs."""
    what, rows, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    reader = JsonlReader(str(rows.parent), glob_pattern=rows.name, adapter=adapted)
    writer = JsonlWriter(str(folder / "kept"), compression=None)
    if what == "none":
        go([reader, writer], folder / "logs")
    elif what == "pii":
        go([reader, PIIFormatter(), writer], folder / "logs")
    elif what == "duplicates":
        signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
        go([reader, MinhashDedupSignature(signatures)], folder / "logs-1")
        go([MinhashDedupBuckets(signatures, buckets)], folder / "logs-2", BUCKETS)
        go([MinhashDedupCluster(buckets, removed)], folder / "logs-3")
        go([reader, MinhashDedupFilter(removed), writer], folder / "logs")
    else:
        sys.exit(f"unknown job {what}")


if __name__ == "__main__":
    main()
