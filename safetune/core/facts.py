"""Facts: what surveying the world found; a plan is made of nothing else, a playbook and a standing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from safetune.core.digest import JSON
from safetune.core.guarded import Guarded
from safetune.core.prompt_lint import Lint


@dataclass(frozen=True, slots=True)
class Fact:
    """What was found about one named thing: its identity (a digest or a version), its size, or what is wrong.

    `size` is bytes for a source or a model, items for a suite; None when unknown. `clusters` counts the groups of
    alike items in a suite, `slices` holds items and clusters of each of its slices. `calibration` is what evidence of
    the suite will tell of its judge's error; None when nothing is known of it. `note` is worth showing. `part` is what
    of the playbook a problem is about, such as `guardrail NAME`, where that is not the thing itself.
    """

    name: str
    identity: str
    size: int | None = None
    problem: str = ""
    note: str = ""
    clusters: int | None = None
    slices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    calibration: Mapping[str, JSON] | None = None
    part: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What surveying the world found.

    `seconds_per_step` maps a training shape to (seconds, where measured), `bytes_per_checkpoint` to the last size.
    `launch_files` are the accelerate configuration files that stages name, by path. `guarded` is what becomes of the
    rows of each source under its guards. `lint` is what is worth knowing of the prompt templates.
    """

    model: Fact
    sources: Mapping[str, Fact]
    suites: Mapping[str, Fact]
    plugins: Mapping[str, Fact]
    free_bytes: int
    seconds_per_step: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    bytes_per_checkpoint: Mapping[str, int] = field(default_factory=dict)
    launch_files: Mapping[str, Fact] = field(default_factory=dict)
    guarded: Mapping[str, Guarded] = field(default_factory=dict)
    lint: tuple[Lint, ...] = ()

    @property
    def checked(self) -> Mapping[str, Fact]:
        """The sources by name, with what guards and the data policy hold against them as their problem."""
        return {name: self._checked(name, fact) for name, fact in self.sources.items()}

    def _checked(self, name: str, fact: Fact) -> Fact:
        found = self.guarded.get(name)
        if fact.problem or found is None or not found.problem:
            return fact
        return replace(fact, problem=f"source {name}: {found.problem}")
