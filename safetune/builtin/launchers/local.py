"""Run a job as one plain child process."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from safetune.builtin.launchers.environment import worker_environment
from safetune.protocols import Job


class LocalLauncher:
    """The `local` launcher."""

    name = "local"

    def command(self, job: Job) -> tuple[str, ...]:
        """Return the command line of a worker."""
        return (sys.executable, "-m", "safetune.worker", str(job.folder))

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return the variables of a worker."""
        return worker_environment(job)
