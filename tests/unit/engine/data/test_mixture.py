"""How a mixture numbers its rows: over all parts in order, so that no two rows share a number."""

from __future__ import annotations

from safetune.core.guarded import Guarded
from safetune.core.playbook import Screen, Stage, Technique
from safetune.core.source import Source
from safetune.engine.data.desk import Admitted
from safetune.engine.data.mixture import parts_of


def admitted(name: str, rows: int, kept: int) -> Admitted:
    source = Source(name, f"/nowhere/{name}.jsonl", "a" * 64, "MIT", "", "", ("train",))
    return Admitted(source, Guarded(name, "key", f"rows of {name}", rows=rows, kept=kept, data=f"data of {name}"))


STOCK = {one.source.name: one for one in (admitted("a", 9, 7), admitted("b", 5, 5), admitted("c", 4, 3))}


def stage(screen: Screen | None = None) -> Stage:
    technique = Technique("kl_regularization", {}, (("c", 1.0), ("a", 0.5)))
    return Stage("s", "sft", (("a", 0.25), ("b", 0.75)), {}, None, (technique,), (), 0, screen=screen)


def test_each_part_begins_where_the_kept_rows_of_those_before_it_end() -> None:
    found = parts_of(stage(), STOCK)
    assert [(p.name, p.role, p.share, p.first, p.kept) for p in found] == [
        ("a", "train", 0.25, 0, 7),
        ("b", "train", 0.75, 7, 5),
        ("c", "technique:kl_regularization", 1.0, 12, 3),
        ("a", "technique:kl_regularization", 0.5, 15, 7),
    ]
    assert [(p.data, p.rows_sha256) for p in found[:2]] == [("data of a", "rows of a"), ("data of b", "rows of b")]
    numbers = [n for p in found for n in range(p.first, p.first + p.kept)]
    assert numbers == list(range(22))


def test_anchors_of_a_screen_are_numbered_last_and_a_side_without_one_is_none() -> None:
    both = parts_of(stage(Screen("representation", ("b", "c"))), STOCK)
    assert [(p.name, p.role, p.first) for p in both[4:]] == [("b", "anchor:harmful", 22), ("c", "anchor:safe", 27)]
    one = parts_of(stage(Screen("gradient", ("", "c"))), STOCK)
    assert [(p.name, p.role, p.first) for p in one[4:]] == [("c", "anchor:safe", 22)]
