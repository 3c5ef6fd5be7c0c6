"""Write a checkpoint as one model folder with everything merged, ready to be served; the store keeps its own copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.playbook import Playbook
from safetune.core.prompt_design import PromptTemplate
from safetune.core.standing import CheckpointStanding
from safetune.engine.evidence_files import read_evidence
from safetune.engine.jobs import run_jobs, scratch_folder, write_job
from safetune.engine.planning import prepare
from safetune.engine.subjects import Subjects
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import machine_errors
from safetune.state.store import Store

_SYSTEM_PROMPT = "system_prompt.txt"  # as the worker calls it


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported, as which checkpoint, where to, and how large it is.

    `template` is the serving template that it carries: empty for the model's own. `system_prompt` is the file with the
    system message that must be sent with every request, `chat_template` says that the folder has the playbook's.
    """

    target: str
    checkpoint: str
    folder: Path
    bytes: int
    template: str = ""
    system_prompt: str = ""
    chat_template: bool = False


def export(playbook: Path, store_root: Path, where: tuple[str, Path], listener: Listener) -> ExportResult:
    """Merge a channel's or checkpoint's weights into a new folder; `where` is (target, folder).

    Only what is promoted leaves the store: a candidate, a rejected or a quarantined checkpoint is refused. The folder
    carries the serving template of the playbook, which must be the one that the checkpoint was gated with.

    Raises:
        UsageError: when the target is unknown or not promoted, was gated with another template, or the folder exists.
        IntegrityError: when stored bytes are damaged.
    """
    target, folder = where
    if folder.exists():
        raise UsageError(f"{folder} exists already", hint="give a folder that does not exist yet")
    prepared = prepare(playbook, store_root, guard=False)
    store = Store.open(store_root)
    subject, digest = Subjects(prepared.model, store, listener).named(target or prepared.playbook.channel)
    found = store.standing().checkpoints.get(digest)
    if found is not None and found.withdrawn_at:
        raise UsageError(
            f"{subject.label} learnt from data that was withdrawn (ledger line {found.withdrawn_at})",
            hint="take it out of service; nothing frees it (safetune status)",
        )
    if found is None or found.status != "promoted" or not found.stands:
        state = found.status if found else "not a checkpoint of the store"
        failed = ", but its last gate did not say PASS" if found and found.status == "promoted" else ""
        raise UsageError(
            f"{subject.label} is {state}{failed}; only promoted checkpoints that pass are exported",
            hint="safetune status",
        )
    serving = _serving(prepared.playbook, (subject.label, found), store)
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    with scratch_folder(store.scratch / f"export-{os.getpid()}") as scratch:
        output = str(scratch / "model")
        content: dict[str, JSON] = {"job": "merge", "model": subject.weights, "output": output, "threads": 1}
        if serving:
            content["prompt"] = {"system": serving.system, "chat_template": serving.chat_template}
        write_job(scratch, content)
        run_jobs([(Job(scratch, "merge"), f"export {subject.label}", launcher)], listener)
        with machine_errors(f"write {folder}"):
            folder.absolute().parent.mkdir(parents=True, exist_ok=True)
            partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
            try:
                shutil.move(output, partial)  # it may be a copy to another disk, and break off
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    total = sum(f.stat().st_size for f in folder.iterdir())
    if serving is None:
        return ExportResult(subject.label, digest, folder, total)
    file = str(folder / _SYSTEM_PROMPT) if serving.system else ""
    return ExportResult(subject.label, digest, folder, total, serving.name, file, bool(serving.chat_template))


def _serving(playbook: Playbook, known: tuple[str, CheckpointStanding], store: Store) -> PromptTemplate | None:
    """Return what the exported model is to be served with: nothing but what it was gated with.

    Raises:
        UsageError: when the playbook serves with another template by now.
    """
    label, found = known
    evidence = found.gates[-1].evidence
    store.objects.verify(evidence)
    suites = {suite.name: suite.decoding for suite in playbook.suites}
    for measured in read_evidence(store.objects.path(evidence)).suites:
        now = suites.get(measured.suite)
        if now and _wording(measured.told.get("serving")) != _wording(now.told if now.serving else None):
            raise UsageError(
                f"{label} was gated with another serving template than the playbook has now",
                hint='gate it with that one first: safetune run PLAYBOOK --reason "..."',
            )
    serving = playbook.inputs.prompts.serving
    return serving if serving and serving.wording else None


def _wording(told: object) -> tuple[object, object]:
    """Return what reached the model: the system message, and the digest of the chat template."""
    known = told if isinstance(told, Mapping) else {}
    return known.get("system") or "", known.get("chat_template_sha256") or ""
