"""What a stage trains, as a digest: equal keys give equal checkpoints. And what the time of its steps depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from safetune.core.digest import JSON, digest
from safetune.core.facts import Facts
from safetune.core.playbook import Playbook, Screen, Stage
from safetune.core.serving import trained_with


def stage_key(playbook: Playbook, stage: Stage, input_key: str, facts: Facts) -> str:
    """Return the identity of what a stage trains: input, data, method, settings and seed; not names, paths or gates."""
    shares = dict(stage.sources)
    return digest(
        {
            "input": input_key or facts.model.identity,
            "trainer": stage.trainer,
            "trainer_version": facts.plugins[f"trainer {stage.trainer}"].identity,
            "sources": _rows(playbook, shares.items(), facts),
            "train": stage.train,
            "adapter": stage.adapter.identity if stage.adapter else None,
            "techniques": [
                {
                    "name": t.name,
                    "version": facts.plugins[f"technique {t.name}"].identity,
                    "options": t.options,
                    "sources": _rows(playbook, t.sources, facts),
                }
                for t in stage.techniques
            ],
            **({"screen": _screen(playbook, stage.screen, facts)} if stage.screen and stage.screen.decides else {}),
            "seed": stage.seed,
            "num_processes": stage.launch.num_processes,
            "launch_file": facts.launch_files[stage.launch.config_file].identity if stage.launch.config_file else "",
            **({"template": template.wording} if (template := trained_with(playbook, stage)) else {}),
        }
    )


def _rows(playbook: Playbook, shares: Iterable[tuple[str, float]], facts: Facts) -> list[JSON]:
    """Return the rows of a mixture by name, digest and share: those that the guards keep, not those of the file."""
    rows: list[JSON] = []
    for name, share in sorted(shares):
        found = facts.guarded.get(name)
        sha256 = found.rows_sha256 if found else playbook.source(name).sha256
        rows.append({"name": name, "rows": sha256, "share": share})
    return rows


def _screen(playbook: Playbook, screen: Screen, facts: Facts) -> Mapping[str, JSON]:
    return {**screen.identity, "rows": _rows(playbook, ((name, 1.0) for name in screen.anchors if name), facts)}


def training_shape(stage: Stage, model: str) -> str:
    """Return what the time of one training step depends on, as a digest."""
    timed = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "packing")
    return digest(
        {
            "model": model,
            "trainer": stage.trainer,
            "adapter": stage.adapter.identity if stage.adapter else None,
            "train": {k: stage.train[k] for k in timed if k in stage.train},
            "techniques": [{"name": t.name, "options": t.options} for t in stage.techniques],
            "launch": [stage.launch.num_processes, stage.launch.threads],
            **({"template": stage.template} if stage.template else {}),
        }
    )
