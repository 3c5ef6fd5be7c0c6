"""Look at sources with their guards, by themselves: nothing is trained, nothing enters the store."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from safetune.core.data_card import DataCard, SourceCard
from safetune.core.diagnostics import did_you_mean
from safetune.core.errors import ExitCode, UsageError
from safetune.core.guarded import Guarded
from safetune.core.playbook import Playbook
from safetune.core.source import Source
from safetune.core.standing import Standing
from safetune.engine.data.declared import declared
from safetune.engine.data.desk import judged, scope_of, withdrawn_ids
from safetune.engine.data.guarding import Guards, Scope
from safetune.engine.data.pin import source_at
from safetune.engine.data.staging import FINDINGS
from safetune.engine.prompts import load_once
from safetune.playbook.data import build_policy
from safetune.playbook.layers import shipped_policy
from safetune.playbook.load import load
from safetune.protocols import Listener
from safetune.state.atomic import machine_errors
from safetune.state.lock import FileLock
from safetune.state.store import Store

_WAIT_SECONDS = 0.5
_PLAYBOOKS = (".yaml", ".yml")
_NAME = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What to check: a playbook or one data file; only some of its sources, or only some guards, when named.

    `findings` is a file that gets every finding as a line of JSON. `store` remembers how far an interrupted check got.
    """

    target: Path
    store: Path
    sources: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    findings: Path | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found, and 2 as exit code when any source is blocked."""

    card: DataCard
    findings: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """DONE, or USAGE when a source may not train a model as it is."""
        blocked = any(source.outcome.problem for source in self.card.sources)
        return ExitCode.USAGE if blocked else ExitCode.DONE


def check(wanted: CheckRequest, listener: Listener) -> CheckResult:
    """Guard the sources of a playbook, or a data file under the shipped policy, and say what is found.

    A check that was interrupted goes on where it was, given the same store.

    Raises:
        UsageError: when the target cannot be read, or a name is unknown.
        IntegrityError: when the bytes of a source are not the pinned ones.
    """
    sources, scope, judge = _inputs(wanted)
    guards = Guards(scope, wanted.guards)
    cards = []
    with ExitStack() as kept:
        work = _workplace(wanted.store, kept)
        out = kept.enter_context(_opened(wanted.findings)) if wanted.findings else None
        for source in sources:
            folder = work / guards.key(source)[:32]
            kept.enter_context(FileLock(folder.with_suffix(".lock"), _WAIT_SECONDS, f"the rows of {source.name}"))
            outcome = judge(source, guards.guard(source, folder, listener))
            if not wanted.sources or source.name in wanted.sources:  # others are there to be compared with
                milder = scope.policy.loosened_for(source.guards)
                cards.append(SourceCard(declared(source).declarations, outcome, loosened=milder))
                if out is not None:
                    with (folder / FINDINGS).open("rb") as lines:
                        shutil.copyfileobj(lines, out)
            shutil.rmtree(folder, ignore_errors=True)
    card = DataCard(wanted.target.name, tuple(cards), scope.policy.identity)
    return CheckResult(card, str(wanted.findings or ""))


def _workplace(store: Path, kept: ExitStack) -> Path:
    """Return a folder for rows on their way: in the store, if there is one, where an interrupted check goes on."""
    if (store / "work").is_dir():
        with machine_errors("make a folder for the rows"):
            (store / "work" / "checks").mkdir(exist_ok=True)
        return store / "work" / "checks"
    return Path(kept.enter_context(TemporaryDirectory(prefix="safetune-")))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="name a file in a folder that exists"
        ) from None


_Judge = Callable[[Source, Guarded], Guarded]


def _inputs(wanted: CheckRequest) -> tuple[Sequence[Source], Scope, _Judge]:
    """Return the sources to go through, up to the last one that is wanted, what guards are told, and what is added.

    A data file declares nothing: only its rows are looked at.
    """
    if wanted.target.suffix not in _PLAYBOOKS:
        source = source_at(str(wanted.target), Path.cwd(), "", "")
        policy = build_policy(shipped_policy())
        if not Path(source.path).exists():
            raise UsageError(f"{wanted.target} does not exist", hint="name a playbook (YAML) or a data file")
        return (replace(source, name=_NAME.sub("-", wanted.target.name.lower()) or "data"),), Scope(policy), _as_it_is
    playbook = load(wanted.target)
    store = Store.open(wanted.store) if (wanted.store / "ledger.jsonl").exists() else None
    standing = store.standing() if store else Standing()
    names = [source.name for source in playbook.sources]
    unknown = next((name for name in wanted.sources if name not in names), "")
    if unknown:
        hint = did_you_mean(unknown, names) or f"known: {', '.join(names)}"
        raise UsageError(f"the playbook has no source {unknown}", hint=hint)
    last = max((names.index(name) for name in wanted.sources), default=len(names) - 1)
    judge = partial(_judged, playbook, standing)
    return playbook.sources[: last + 1], scope_of(playbook, load_once(), withdrawn_ids(store)), judge


def _as_it_is(_source: Source, outcome: Guarded) -> Guarded:
    return outcome


def _judged(playbook: Playbook, standing: Standing, source: Source, outcome: Guarded) -> Guarded:
    return judged(source, outcome, playbook, standing)
