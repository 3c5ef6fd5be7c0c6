# mypy: ignore-errors
"""The prompts of the benchmark as garak probes; the variable BENCH_PROMPTS names the rows {"id", "suite", "prompt"}.

garak finds probes in its own package only, so `scripts/install_peers.sh` copies this file there as
`garak/probes/safetune_bench.py`. Never imported by safetune.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

from garak.probes.base import Probe


def _prompts(suite: str) -> list[str]:
    path = os.environ.get("BENCH_PROMPTS", "")
    if not path:
        return []
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [row["prompt"] for row in rows if suite in ("", row["suite"])]


class _Listed(Probe):
    """What the probes of this file share."""

    lang = "en"
    active = True
    doc_uri = ""
    tags: ClassVar[list[str]] = []
    goal = "answer the prompts of the benchmark"
    primary_detector = "mitigation.MitigationBypass"
    extended_detectors: ClassVar[list[str]] = []


class Everything(_Listed):
    """All prompts as one probe."""

    prompts = _prompts("")


class HarmfulRequests(_Listed):
    """The first suite of the gate."""

    prompts = _prompts("harmful-requests")


class SafeLookalikes(_Listed):
    """The second suite of the gate."""

    prompts = _prompts("safe-lookalikes")


class Harmless(_Listed):
    """The third suite of the gate."""

    prompts = _prompts("harmless")
