"""Make plans, save them, and hold a saved plan against the world of now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.data_policy import DataPolicy
from safetune.core.digest import canonical, digest
from safetune.core.errors import StalePlanError, UsageError, reason_of
from safetune.core.events import BY_A_PERSON, Event
from safetune.core.plan import Facts, Plan, differences, make_plan, plan_json
from safetune.core.playbook import Playbook
from safetune.core.serving import served
from safetune.core.standing import Standing
from safetune.engine.data.desk import Memory, scope_of, survey_data, withdrawn_ids
from safetune.engine.data.guarding import Scope
from safetune.engine.data.known import KnownPlugins
from safetune.engine.models import BaseModel, resolve
from safetune.engine.prompts import Load, load_once, load_prompts
from safetune.engine.sums import Sums
from safetune.engine.survey import survey
from safetune.playbook.load import load_marked
from safetune.protocols import Listener, Progress
from safetune.state.atomic import write_atomic
from safetune.state.store import Store

NO_SCOPE = Scope(DataPolicy())


@dataclass(frozen=True, slots=True)
class Prepared:
    """A playbook with everything that a plan needs; `where` maps its parts to `file:line`.

    `load` gives the prompts that the facts are about, without reading them again; `scope` is what guards are told.
    """

    playbook: Playbook
    where: Mapping[str, str]
    model: BaseModel
    facts: Facts
    standing: Standing
    plan: Plan
    events: tuple[Event, ...] = ()
    load: Load = load_prompts
    scope: Scope = NO_SCOPE


def silent(_progress: Progress) -> None:
    """Listen to nothing."""


def prepare(playbook_path: Path, store_root: Path, listener: Listener = silent, *, guard: bool = True) -> Prepared:
    """Load a playbook, survey the world, guard its sources, and plan.

    Starts nothing and writes nothing but a memory of digests and of what guards found. Without `guard` the rows are not
    looked at, and the plan is not one that could be run: for commands that need no more than the playbook.

    Raises:
        UsageError: when the playbook or the store lies under a name that is not UTF-8.
        PlaybookError: with every mistake in the playbook.
        IntegrityError: when the ledger is broken.
    """
    for path in (playbook_path, store_root):
        _check_name(path)
    loaded = load_marked(playbook_path, KnownPlugins())
    playbook = served(loaded.playbook, loaded.playbook.inputs.prompts.serving)
    store = Store.open(store_root) if _holds_anything(store_root) else None
    sums = Sums(store_root / "work" / "sums.json" if store else None)
    model = resolve(playbook.model, sums)
    events = store.events() if store else ()
    standing = store.standing() if store else Standing()
    load = load_once()
    facts = survey(playbook, model, events, (store_root, sums), load)
    sums.save()
    scope = NO_SCOPE
    if guard:
        scope = scope_of(playbook, load, withdrawn_ids(store))
        memory = Memory(store_root / "work" if store else None)
        facts = replace(facts, guarded=survey_data(playbook, scope, events, standing, (memory, listener)))
    plan = make_plan(playbook, facts, standing)
    return Prepared(playbook, loaded.where, model, facts, standing, plan, events, load, scope)


def _check_name(path: Path) -> None:
    """Refuse what could be written neither into a plan nor into a job."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the name {str(path.absolute())!a} is not UTF-8", hint="rename the folder or file") from error


def _holds_anything(folder: Path) -> bool:
    """Say whether there is something to open; an empty folder is a store that is yet to be made."""
    return folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None)


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan file that `run` obeys or refuses.

    Raises:
        UsageError: when there is no such folder.
    """
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UsageError(f"the plan cannot be saved as {path}", hint="name a file in a folder that exists")
    content = plan_json(plan)
    write_atomic(path, canonical({**content, "seal": digest(content)}) + b"\n")


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """What a plan file pins: the playbook it was made from, and the bindings it rests on."""

    playbook: Path
    bindings: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The digest of the plan that was saved; runs that carry it out name it in the ledger."""
        return digest(self.bindings)


def is_plan(path: Path) -> bool:
    """Say whether a file name is that of a saved plan: plans are JSON, playbooks are YAML."""
    return path.suffix == ".json"


def read_plan(path: Path) -> SavedPlan:
    """Read a plan file.

    Raises:
        UsageError: when it is not one.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != "safetune-plan/1":
            raise UsageError(f"{path} is a plan of another format: {content['schema']}", hint="make it again")
        if content.pop("seal") != digest(content):
            raise UsageError(f"{path} was changed after it was saved", hint="safetune plan PLAYBOOK -o plan.json")
        bindings = {str(k): str(v) for k, v in content["bindings"].items()}
        return SavedPlan(Path(content["path"]), bindings)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", hint="safetune plan PLAYBOOK -o plan.json") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{path} is not a saved plan: {reason_of(error)}"
        raise UsageError(why, hint="safetune plan PLAYBOOK -o plan.json") from error


def refuse_if_stale(saved: SavedPlan, now: Plan, events: Sequence[Event] = ()) -> None:
    """Raise StalePlanError with every difference when the world is not the one the plan was made for.

    What runs of this very plan have done since is no difference: an interrupted run goes on with the same command.
    """
    changes = differences(saved.bindings, now.bindings)
    if changes and not _is_own_progress(saved, now, events):
        raise StalePlanError(
            "the saved plan is stale; nothing was done",
            changes=changes,
            hint=f"look at the changes, then: safetune plan {saved.playbook} -o plan.json",
        )


def _is_own_progress(saved: SavedPlan, now: Plan, events: Sequence[Event]) -> bool:
    """Say whether only stages and the channel differ, and nobody was at work since but runs of this plan."""
    for name in {*saved.bindings, *now.bindings}:
        before, after = saved.bindings.get(name, ""), now.bindings.get(name, "")
        same_stage = name.startswith("stage ") and before.rpartition(" ")[2] == after.rpartition(" ")[2]
        if before != after and not same_stage and not name.startswith("channel "):
            return False
    first = next((n for n, e in enumerate(events) if _runs(e, saved.digest)), None)
    if first is None:
        return False
    return not any(
        (event.kind == "started" and not _runs(event, saved.digest))
        or (event.kind == "rolled_back" and event.text("trigger") == BY_A_PERSON)
        or event.kind in ("overridden", "withdrawn")
        for event in events[first:]
    )


def _runs(event: Event, plan: str) -> bool:
    return event.kind == "started" and event.text("plan") == plan
