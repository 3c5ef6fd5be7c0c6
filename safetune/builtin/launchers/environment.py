"""Variables every worker gets: one set of defaults that were measured on small machines."""

from __future__ import annotations

from collections.abc import Mapping

from safetune.protocols import Job


def worker_environment(job: Job) -> Mapping[str, str]:
    """Return the environment of a worker.

    OpenMP threads that wait by spinning make a second process several times slower, so they wait passively.
    """
    threads = str(max(1, job.threads))
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0" if job.kind == "fetch" else "1",
        "PYTHONUNBUFFERED": "1",
    }
