"""Models that can be asked, made ready once: the base model, checkpoints of the store, local folders."""

from __future__ import annotations

from pathlib import Path

from safetune.core.digest import short
from safetune.core.errors import UsageError
from safetune.core.playbook import ModelRef
from safetune.core.rollback import find_checkpoint
from safetune.engine import checkpoints
from safetune.engine.asking import Subject, endpoint_subject
from safetune.engine.models import BaseModel, make_ready, resolve
from safetune.engine.sums import Sums
from safetune.protocols import Listener
from safetune.state.files import sha256_file
from safetune.state.store import Store

BASE = "base"
_WEIGHTS = ".safetensors"


class Subjects:
    """Makes subjects of one playbook's base model and one store; the base is converted and verified at most once."""

    def __init__(self, model: BaseModel, store: Store, listener: Listener, key_variable: str = "") -> None:
        self._model = model
        self._store = store
        self._listener = listener
        self._key_variable = key_variable
        self._base: Subject | None = None

    def base(self) -> Subject:
        """Return the base model, made ready and verified."""
        if self._base is None:
            folder = make_ready(self._model, self._store.scratch / "model", self._listener)
            self._base = checkpoints.base_subject(self._model.label, self._model.identity, folder)
        return self._base

    def checkpoint(self, digest: str) -> Subject:
        """Return a checkpoint with every file it rests on verified; an empty digest is the base model.

        Raises:
            IntegrityError: when it is damaged, or was trained from another base model than the playbook's.
        """
        if not digest:
            return self.base()
        found = checkpoints.lineage(self._store.objects, digest)
        folder = Path() if found.full else Path(str(self._for(found.base, digest).weights["base"]))
        return checkpoints.subject(self._store.objects, digest, folder)

    def _for(self, base: str, digest: str) -> Subject:
        if base != self._model.identity:
            raise UsageError(
                f"checkpoint {digest[:12]} was trained from another base model than this playbook names",
                hint="use the playbook that it was trained with",
            )
        return self.base()

    def named(self, target: str, *, gate: bool = False) -> tuple[Subject, str]:
        """Return what a person named, and its checkpoint digest where it is in the ledger (else empty).

        `target` is `base`, a channel, a checkpoint's digest prefix, a model folder, or `ADDRESS#MODEL` for a model
        behind an OpenAI-compatible endpoint (http://localhost:8000/v1#my-model). A folder of the store is the
        checkpoint that it holds; for a gate a folder with the weights of a checkpoint is that checkpoint too.

        Raises:
            UsageError: when it is none of these.
        """
        standing = self._store.standing()
        if target == BASE:
            return self.base(), ""
        if target in standing.channels:
            digest = standing.channels[target].current
            return self.checkpoint(digest), digest
        if target.startswith(("http://", "https://")):
            return self._endpoint(target), ""
        if Path(target).is_dir():
            digest = self._in_store(Path(target)) or (self._of_weights(Path(target)) if gate else "")
            return (self.checkpoint(digest), digest) if digest else (self._folder(Path(target)), "")
        try:
            digest = find_checkpoint(standing, target, "evaluate")
        except UsageError as error:
            channels = ", ".join(sorted(standing.channels)) or "none yet"
            raise UsageError(
                f'"{target}" is neither a channel ({channels}), nor a checkpoint, nor a folder, nor "{BASE}"',
                hint=error.hint,
            ) from None
        return self.checkpoint(digest), digest

    def _endpoint(self, target: str) -> Subject:
        address, _, name = target.partition("#")
        if not name or "@" in address:
            raise UsageError(
                "an endpoint is named ADDRESS#MODEL, without a key in it",
                hint="http://localhost:8000/v1#my-model; a key goes into a variable: --key-variable NAME",
            )
        return endpoint_subject(address.rstrip("/"), name, self._key_variable)

    def _in_store(self, path: Path) -> str:
        """Return the checkpoint that a folder is the object of; empty for a folder outside of the store's objects."""
        place, objects = path.resolve(), (self._store.root / "objects").resolve()
        if not place.is_relative_to(objects):
            return ""
        name = (*place.relative_to(objects).parts, "")[0]
        if name not in self._store.standing().checkpoints:
            raise UsageError(
                f"{path} lies in the store and is no checkpoint of its ledger",
                hint="safetune status lists the checkpoints",
            )
        return name

    def _of_weights(self, path: Path) -> str:
        """Return the checkpoint whose weights a folder holds, under whatever names; empty when there is none."""
        files = [f for f in path.iterdir() if f.suffix == _WEIGHTS and f.is_file()]
        sizes, digests = sorted(f.stat().st_size for f in files), list[str]()
        found = []
        for checkpoint in self._store.standing().checkpoints:
            recorded = [r for n, r in self._store.objects.manifest(checkpoint).items() if n.endswith(_WEIGHTS)]
            if sizes and sorted(size for size, _ in recorded) == sizes:
                digests = digests or sorted(map(sha256_file, files))
                found += [checkpoint] if sorted(sha for _, sha in recorded) == digests else []
        if len(found) > 1:
            names = ", ".join(short(digest) for digest in found)
            raise UsageError(f"{path} has the weights of several checkpoints: {names}", hint="name one of them")
        return found[0] if found else ""

    def _folder(self, path: Path) -> Subject:
        model = resolve(ModelRef("folder", str(path.absolute()), name=path.name), Sums(None))
        if model.problem:
            raise UsageError(model.problem, hint="name a folder with config.json and .safetensors files")
        return checkpoints.base_subject(model.label, model.identity, model.folder)  # hashed just now
