"""What a machine is told to be, without loading a library."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from safetune.state import device


@pytest.mark.parametrize(
    ("driver", "visible", "kind"),
    [
        (False, None, "cpu"),
        (False, "0", "cpu"),
        (True, None, "cuda"),
        (True, "0,1", "cuda"),
        (True, "", "cpu"),
        (True, "-1", "cpu"),
    ],
)
def test_a_driver_that_is_not_hidden_means_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: bool, visible: str | None, kind: str
) -> None:
    control = tmp_path / "nvidiactl"
    if driver:
        control.touch()
    monkeypatch.setattr(device, "_NVIDIA_CONTROL", control)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.device_kind() == kind
    assert device.generator()["device"] == kind


def test_the_versions_are_those_installed_and_empty_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device.generator()
    assert set(found) == {"device", "engine", "torch", "transformers"}
    monkeypatch.setattr(device, "_LIBRARIES", ("typer", "no-such-package-anywhere"))
    assert {**device.generator(), "device": "", "engine": ""} == {
        "device": "",
        "engine": "",
        "typer": version("typer"),
        "no-such-package-anywhere": "",
    }
