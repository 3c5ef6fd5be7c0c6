"""Run a job through `accelerate launch`, so that one process or many, CPU or GPU, is the launcher's concern.

Every setting is passed on the command line: a configuration file of the machine must not change a run silently.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from safetune.builtin.launchers.environment import worker_environment
from safetune.protocols import Job
from safetune.state.device import device_kind


class AccelerateLauncher:
    """The `accelerate` launcher."""

    name = "accelerate"

    def command(self, job: Job) -> tuple[str, ...]:
        """Return the accelerate command line.

        Several processes on a CPU need `--multi_gpu` with ACCELERATE_USE_CPU: `--cpu --num_processes 2` starts one
        process and exits 0 (tried with accelerate 1.15). The worker checks the world size all the same.
        """
        settings = ("--num_processes", str(job.num_processes), "--num_machines", "1", "--dynamo_backend", "no")
        if job.config_file:
            kind: tuple[str, ...] = ("--config_file", job.config_file)
        elif job.num_processes > 1:
            kind = ("--multi_gpu", "--mixed_precision", "no")
        else:
            kind = ("--mixed_precision", "no") if device_kind() == "cuda" else ("--cpu", "--mixed_precision", "no")
        launch = (sys.executable, "-m", "accelerate.commands.launch", *settings, *kind)
        return (*launch, "-m", "safetune.worker", str(job.folder))

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return the variables of a worker.

        accelerate reads `accelerate/default_config.yaml` under HF_HOME where it is not told `--cpu`, whatever else is
        on the command line; so HF_HOME is a folder of the job, in which there is none.
        """
        cpu = {} if device_kind() == "cuda" or job.config_file else {"ACCELERATE_USE_CPU": "true"}
        return {**worker_environment(job), "HF_HOME": str(job.folder / "hf"), **cpu}
