"""The rows of one stage: guarded, in the store, named by one mixture, and written into its training job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON
from safetune.core.events import Draft, admitted
from safetune.core.playbook import Stage
from safetune.core.prompt_design import PromptTemplate
from safetune.core.serving import trained_with
from safetune.engine.data.declared import inner
from safetune.engine.data.description import CROISSANT, croissant_record
from safetune.engine.data.desk import Admitted, admit
from safetune.engine.data.mixture import TRAIN, Part, mixture_content, parts_of, store_mixture
from safetune.engine.data.staging import ROWS
from safetune.engine.planning import Prepared
from safetune.protocols import Listener
from safetune.state.objects import ObjectStore
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class StageRows:
    """What a stage may be trained on: the mixture's digest, its parts, and the sources behind them by name.

    `skip` are numbers of rows of the mixture that are left out although they are in it; `template` is how rows are put
    into words, None for the model's own way.
    """

    mixture: str
    parts: tuple[Part, ...]
    admitted: Mapping[str, Admitted]
    objects: ObjectStore
    template: PromptTemplate | None = None
    skip: tuple[int, ...] = ()

    def job(self, stage: Stage) -> Mapping[str, JSON]:
        """Return what a training job is told of its rows."""
        techniques: list[JSON] = [
            {"name": t.name, "options": t.options, "sources": self.job_sources(f"technique:{t.name}")}
            for t in stage.techniques
        ]
        told: dict[str, JSON] = {"mixture": self.mixture, "sources": self.job_sources(), "techniques": techniques}
        told |= {"skip": list(self.skip)} if self.skip else {}
        if self.template is not None:
            told["prompt"] = {"system": self.template.system, "chat_template": self.template.chat_template}
        return told

    def job_sources(self, role: str = TRAIN) -> list[JSON]:
        """Return the parts of a role in the form of a worker's job."""
        return [
            {
                "name": part.name,
                "rows": str(self.objects.path(part.data) / ROWS),
                "sha256": part.rows_sha256,
                "first": part.first,
                "share": part.share,
            }
            for part in self.parts
            if part.role == role
        ]

    def draft(self, stage_key: str) -> Draft:
        """Return the ledger line that admits the rows: every source with what it says of itself and what was kept."""
        used = {part.name for part in self.parts}
        rows: list[JSON] = [
            {
                **one.source.declarations,
                **inner(one.source),
                **({"columns": dict(one.source.columns)} if one.source.columns else {}),
                "data": one.outcome.data,
                "guarded": one.outcome.json,
            }
            for name, one in self.admitted.items()
            if name in used
        ]
        return admitted(stage_key, self.mixture, rows)


def stage_rows(prepared: Prepared, stage: Stage, store: Store, scratch: Path, listener: Listener) -> StageRows:
    """Guard what is not in the store yet, and name the rows of a stage by one mixture.

    Raises:
        UsageError: when a source is blocked or cannot be read.
        IntegrityError: when a source is not what the plan saw.
    """
    playbook = prepared.playbook
    found = admit(playbook, prepared.scope, prepared.facts.guarded, store, listener)
    parts = parts_of(stage, found)
    content = mixture_content(playbook, stage, parts, found)
    about = (playbook.name, playbook.owners)
    also = {CROISSANT: croissant_record(about, stage, parts, found, store.objects)}
    mixture = store_mixture(content, also, store.objects, scratch / "mixture")
    template = trained_with(playbook, stage)
    return StageRows(mixture, parts, found, store.objects, template)
