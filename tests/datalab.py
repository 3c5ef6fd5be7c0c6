"""A store with rows in it: data objects, mixtures, checkpoints that were trained on them, and the record of what each
optimizer step saw, all as the engine leaves them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storelab.story import Story

from safetune.core.digest import JSON, canonical, digest, sha256_hex
from safetune.core.events import trained
from safetune.core.guarded import Guarded
from safetune.core.playbook import Inputs, ModelRef, Playbook, Promotion, Sprint, Stage, Technique
from safetune.core.row_id import row_id
from safetune.core.source import Provenance, Source
from safetune.engine.data.desk import Admitted
from safetune.engine.data.mixture import Part, mixture_content, parts_of, store_mixture
from safetune.engine.data.stage_rows import StageRows
from safetune.engine.data.staging import Staging
from safetune.state.seen import Growing, SeenRows, write_lineage
from safetune.state.store import Store

Row = Mapping[str, Any]


def told(question: str, answer: str) -> dict[str, Any]:
    """Return a row of one question and its answer."""
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


@dataclass(frozen=True)
class Stocked:
    """A source in the store: what it says of itself, what became of it, and its rows in order."""

    source: Source
    outcome: Guarded
    rows: tuple[Row, ...]

    @property
    def ids(self) -> list[str]:
        """The ids of its rows, in order."""
        return [row_id(row) for row in self.rows]


@dataclass
class Mixed:
    """A mixture in the store."""

    digest: str
    parts: tuple[Part, ...]
    stock: Mapping[str, Stocked]
    rows: StageRows

    def number(self, source: str, place: int, role: str = "train") -> int:
        """Return the number of a row, by its source and its place there from 0."""
        part = next(p for p in self.parts if (p.name, p.role) == (source, role))
        assert place < part.kept
        return part.first + place


class DataLab:
    """Makes such a store, step by step. `desk` is a folder outside of the store."""

    def __init__(self, root: Path, desk: Path) -> None:
        self.root, self.desk = root, desk
        self.store = Store.create(root)
        self.story = Story(self.store, desk)
        self._count = 0

    def _folder(self, what: str) -> Path:
        self._count += 1
        folder = self.desk / f"{what}-{self._count}"
        folder.mkdir(parents=True)
        return folder

    def stock(self, name: str, rows: Sequence[Row], **declared: Any) -> Stocked:
        """Put rows into the store as a guarded source; `declared` are fields of `Source` and of its `Provenance`."""
        folder = self._folder("data")
        staging = Staging(folder, "key")
        for row in rows:
            staging.rows([(row_id(row), canonical(row))])
        rows_sha256 = staging.close()
        about = {k: v for k, v in declared.items() if k in Provenance.__slots__}
        said = {k: v for k, v in declared.items() if k not in about}
        given = {"licence": "MIT", "consent": "public-release", "origin": "written", "use": ("train",), **said}
        sha256 = sha256_hex(b"".join(canonical(row) + b"\n" for row in rows))
        source = Source(name, f"/nowhere/{name}.jsonl", sha256, about=Provenance(**about), **given)
        key = digest([name, rows_sha256])
        outcome = Guarded(name, key, rows_sha256, rows=len(rows), kept=len(rows))
        content: Mapping[str, JSON] = {
            "format": "safetune-data/1",
            "source": source.declarations,
            "guarded": outcome.json,
            "policy": {},
        }
        (folder / "data.json").write_bytes(canonical(content) + b"\n")
        return Stocked(source, replace(outcome, data=self.store.objects.adopt(folder)), tuple(rows))

    def mix(self, *stocked: Stocked, technique: Sequence[Stocked] = (), stage: str = "sft") -> Mixed:
        """Put a mixture of sources into the store; those of `technique` are anchors of `kl_regularization`."""
        admitted = {one.source.name: Admitted(one.source, one.outcome) for one in (*stocked, *technique)}
        anchors = tuple((one.source.name, 1.0) for one in technique)
        shares = tuple((one.source.name, 1.0) for one in stocked)
        techniques = (Technique("kl_regularization", {}, anchors),) if anchors else ()
        made = Stage(stage, "sft", shares, {}, None, techniques, (), 0)
        inputs = Inputs(tuple(one.source for one in admitted.values()))
        sprints = (Sprint("sprint", "o", (), (made,)),)
        model = ModelRef("folder", "/nowhere")
        book = Playbook("book", "p", ("us",), model, inputs, (), (), sprints, (), Promotion("stable"), "d", "")
        parts = parts_of(made, admitted)
        content = mixture_content(book, made, parts, admitted)
        stored = store_mixture(content, {}, self.store.objects, self._folder("mixture"))
        stock = {one.source.name: one for one in (*stocked, *technique)}
        return Mixed(stored, parts, stock, StageRows(stored, parts, admitted, self.store.objects))

    def record(self, mixed: Mixed, key: str, steps: Sequence[Sequence[int]], technique: Sequence[Sequence[int]]) -> str:
        """Put into the store which rows each step saw, and return the digest."""
        own, also = Growing(), Growing()
        for step, numbers in enumerate(steps):
            own.add(step, numbers)
        for step, numbers in enumerate(technique):
            also.add(step, numbers)
        folder = self._folder("lineage")
        write_lineage(folder, SeenRows(own.steps, also.steps), {"mixture": mixed.digest, "stage_key": key})
        return self.store.objects.adopt(folder)

    def train(
        self,
        name: str,
        mixed: Mixed,
        steps: Sequence[Sequence[int]],
        technique: Sequence[Sequence[int]] = (),
        parent: str = "",
    ) -> str:
        """Record a training on a mixture whose steps saw these rows, and return the checkpoint."""
        key = f"key-{name}"
        lineage = self.record(mixed, key, steps, technique)
        checkpoint = self.story.adopt(name, parent)
        self.store.commit(mixed.rows.draft(key))
        self.store.commit(trained((key, "sprint", name), checkpoint, parent, {}, lineage))
        return checkpoint

    def train_unrecorded(self, name: str, parent: str = "") -> str:
        """Record a training of before rows were recorded, and return the checkpoint."""
        checkpoint = self.story.adopt(name, parent)
        self.store.commit(trained((f"key-{name}", "sprint", name), checkpoint, parent, {}))
        return checkpoint


def damage_rows(lab: DataLab, data: str) -> None:
    """Change one letter in the stored rows of a data object."""
    path = lab.store.objects.path(data) / "rows.jsonl"
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"role":"user"', b'"role":"User"', 1))


def lines(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as a JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
