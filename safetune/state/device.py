"""What answers and trains on this machine: the kind of its device and the libraries, told without loading any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("torch", "transformers")
_ENGINE = "2"  # of safetune's own decoding; another one rounds differently
_NVIDIA_CONTROL = Path("/dev/nvidiactl")
_HIDES_ALL = ("", "-1")


def device_kind() -> str:
    """Return `cuda` where an NVIDIA driver is there and not hidden by CUDA_VISIBLE_DEVICES, else `cpu`."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in _HIDES_ALL
    return "cuda" if _NVIDIA_CONTROL.exists() and not hidden else "cpu"


def visible_gpus() -> int:
    """Return how many NVIDIA GPUs a process of this environment may use; 0 without a driver."""
    if device_kind() != "cuda":
        return 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    return len(named.split(",")) if named else len(list(_NVIDIA_CONTROL.parent.glob("nvidia[0-9]*")))


def generator() -> Mapping[str, str]:
    """Return what the wording of a response depends on besides weights and prompt: device kind and versions.

    The precision follows from the device. A library that is not installed has an empty version.
    """
    return {"device": device_kind(), "engine": _ENGINE, **{name: _version(name) for name in _LIBRARIES}}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
