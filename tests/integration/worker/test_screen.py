"""Screening: what the scores are, that they do not depend on how rows are put together, and how a job goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import RunError, UsageError
from safetune.plugins import load as load_plugin
from safetune.protocols import ScreenSetup

torch = pytest.importorskip("torch")

from safetune.builtin.screens.encoded_rows import Encoded, encoded, losses  # noqa: E402
from safetune.builtin.screens.sketches import Sketcher  # noqa: E402

SCREENS = ("representation", "gradient", "self_influence")


def _row(prompt: str, answer: str) -> dict[str, Any]:
    asked, told = {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}
    return {"prompt": [asked], "completion": [told]}


HARMFUL = [_row(f"Do the bad thing number {n}.", f"Sure, this is how: step {n}.") for n in range(6)]
SAFE = [_row(f"Do the bad thing number {n}.", "I am sorry, I will not help with that.") for n in range(6)]


@pytest.fixture
def loaded(tiny_model: Path) -> tuple[Any, Any]:
    """The tiny model and its tokenizer."""
    from safetune.worker.model import load

    return load({"base": str(tiny_model), "adapters": []})


def _prepared(name: str, loaded: tuple[Any, Any], options: Mapping[str, Any] | None = None, seed: int = 3) -> Any:
    screen: Any = load_plugin("screen", name, options)
    screen.prepare(ScreenSetup(*loaded, {"harmful": HARMFUL, "safe": SAFE}, seed))
    return screen


def _job(workshop: Any, name: str, rows: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
    folder: Path = workshop.root / name
    folder.mkdir(exist_ok=True)
    job = {
        "job": "screen",
        "model": {"base": str(workshop.model), "base_digest": "tiny", "adapters": []},
        "rows": [workshop.source(f"{name}-rows", rows)],
        "screen": "representation",
        "options": {},
        "anchors": {"harmful": workshop.source("harmful", HARMFUL), "safe": workshop.source("safe", SAFE)},
        "seed": 3,
        "threads": 1,
        "output": str(folder / "scores"),
        **changes,
    }
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def _scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scores" / "scores.jsonl").read_text().splitlines()]


# -- what the scores are -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCREENS)
def test_a_score_does_not_depend_on_the_rows_beside_it(name: str, loaded: tuple[Any, Any], workshop: Any) -> None:
    rows = workshop.questions("sums", 21)
    screen = _prepared(name, loaded)
    together = screen.score(rows)
    alone = [screen.score([row])[0] for row in rows]
    assert together == pytest.approx(alone, abs=2e-5)
    assert screen.score(rows[::-1]) == pytest.approx(together[::-1], abs=2e-5)
    assert len(set(together)) > 15
    assert screen.score([]) == []


@pytest.mark.parametrize("name", SCREENS)
def test_the_same_again_gives_the_same_bits(name: str, loaded: tuple[Any, Any], workshop: Any) -> None:
    rows = workshop.questions("sums", 9)
    assert _prepared(name, loaded).score(rows) == _prepared(name, loaded).score(rows)


@pytest.mark.parametrize("name", SCREENS)
def test_screening_changes_nothing_in_the_model(name: str, loaded: tuple[Any, Any], workshop: Any) -> None:
    model = loaded[0]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    _prepared(name, loaded).score(workshop.questions("sums", 3))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    if name != "representation":  # there transformers leaves hooks of its own
        assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["representation", "gradient"])
def test_what_is_like_an_answered_request_is_above_what_is_like_a_refusal(name: str, loaded: tuple[Any, Any]) -> None:
    answered, refused = _row("Do the bad thing number 9.", "Sure, this is how: step 9."), SAFE[0]
    screen = _prepared(name, loaded)
    high, low = screen.score([answered, refused])
    assert high > 0 > low


def test_the_representation_score_is_its_formula(loaded: tuple[Any, Any], workshop: Any) -> None:
    model, tokenizer = loaded
    row = workshop.questions("sums", 1)[0]

    def last(one: Mapping[str, Any]) -> Any:
        ids = torch.tensor([encoded(tokenizer, one, 512).ids])
        with torch.no_grad():
            return model(ids, output_hidden_states=True).hidden_states[2][0, -1]

    def cos(a: Any, b: Any) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    h = last(row)
    each = sorted(cos(h, last(u)) - cos(h, last(s)) for u, s in zip(HARMFUL, SAFE, strict=True))
    got = _prepared("representation", loaded, {"layer": 2, "top": 4}).score([row])[0]
    assert got == pytest.approx(sum(each[-4:]) / 4, abs=1e-5)
    assert _prepared("representation", loaded, {"layer": 0}).score([row])[0] != pytest.approx(got, abs=1e-5)


def test_a_sketch_is_the_gradient_of_a_fresh_lora(loaded: tuple[Any, Any], workshop: Any) -> None:
    """Against autograd on the full weights: dL/dB = dL/dW A^T, row by row, whatever else is in the batch."""
    model, tokenizer = loaded
    rows = [encoded(tokenizer, row, 512) for row in workshop.questions("sums", 3)]
    sketcher = Sketcher(model, ("q_proj", "v_proj"), 8, seed=5)
    found = sketcher.sketches(rows)
    layers = [(n, m) for n, m in model.named_modules() if n.endswith(("q_proj", "v_proj"))]
    for row, sketch in zip(rows, found, strict=True):
        (loss,) = losses(model, [row])
        full = torch.autograd.grad(loss, [m.weight for _, m in layers])
        wanted = [(g @ sketcher._random[n]).flatten() for (n, _), g in zip(layers, full, strict=True)]
        assert torch.allclose(sketch, torch.cat([w.view(-1) for w in _transposed(wanted)]), atol=1e-5)


def _transposed(flat: Sequence[Any]) -> list[Any]:
    """Turn (output, rank) into (rank, output), as a LoRA's own layout does not matter to a cosine."""
    return [one.view(-1, 8).T.reshape(-1) for one in flat]


def test_the_expected_length_of_a_sketch_is_that_of_the_gradient(loaded: tuple[Any, Any], workshop: Any) -> None:
    model, tokenizer = loaded
    row = encoded(tokenizer, workshop.questions("sums", 1)[0], 512)
    (loss,) = losses(model, [row])
    layers = [m for n, m in model.named_modules() if n.endswith(("q_proj", "v_proj"))]
    full = sum(float(g.square().sum()) for g in torch.autograd.grad(loss, [m.weight for m in layers]))
    squares = [
        float(Sketcher(model, ("q_proj", "v_proj"), 8, seed).sketches([row]).square().sum()) for seed in range(40)
    ]
    assert sum(squares) / len(squares) == pytest.approx(full, rel=0.15)


def test_a_sketch_needs_no_weight_that_can_be_trained(loaded: tuple[Any, Any], workshop: Any) -> None:
    model, tokenizer = loaded
    rows = [encoded(tokenizer, row, 512) for row in workshop.questions("sums", 2)]
    free = Sketcher(model, ("v_proj",), 4, seed=1).sketches(rows)
    model.requires_grad_(False)
    assert torch.equal(free, Sketcher(model, ("v_proj",), 4, seed=1).sketches(rows))


def test_self_influence_is_its_formula(loaded: tuple[Any, Any], workshop: Any) -> None:
    model, tokenizer = loaded
    row = workshop.questions("sums", 1)[0]
    one = encoded(tokenizer, row, 512)
    square = float(Sketcher(model, ("q_proj", "v_proj"), 8, 3).sketches([one]).square().sum())
    wanted = math.log(square + 1) + math.log(len(one.ids) - one.begin + 1)
    assert _prepared("self_influence", loaded).score([row])[0] == pytest.approx(wanted, abs=1e-5)


def test_only_the_first_tokens_of_the_response_count_for_the_gradient(loaded: tuple[Any, Any]) -> None:
    screen = _prepared("gradient", loaded, {"tokens": 3})
    first, second = screen.score([_row("Say it.", "one two three four five"), _row("Say it.", "one two three six")])
    assert first == pytest.approx(second, abs=1e-6)
    other = _prepared("gradient", loaded).score([_row("Say it.", "one two three four five")])[0]
    assert other != pytest.approx(first, abs=1e-6)


def test_of_a_preference_row_the_chosen_answer_is_scored(loaded: tuple[Any, Any]) -> None:
    row = _row("Say it.", "one two")
    pair = {"prompt": row["prompt"], "chosen": row["completion"], "rejected": SAFE[0]["completion"]}
    messages = {"messages": [*row["prompt"], *row["completion"]]}
    one, two, three = _prepared("representation", loaded).score([row, pair, messages])
    assert one == pytest.approx(two, abs=1e-6)
    assert one == pytest.approx(three, abs=1e-6)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("representation", {"layers": 3}, "screen representation has no option layers"),
        ("representation", {"top": 0}, "top must be a whole number of at least 1"),
        ("representation", {"layer": -1}, "layer must be a whole number of at least 0"),
        ("gradient", {"tokens": True}, "tokens must be a whole number"),
        ("gradient", {"modules": "q_proj"}, "modules must be a list of names"),
        ("self_influence", {"tokens": 3}, "screen self_influence has no option tokens"),
    ],
)
def test_wrong_options_are_refused(name: str, options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        load_plugin("screen", name, options)
    assert said in error.value.message


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("representation", {"layer": 3}, "the model has 2 layers, not 3"),
        ("gradient", {"modules": ["c_attn"]}, "the model has no layers called c_attn"),
    ],
)
def test_what_the_model_does_not_have_is_refused(
    name: str, options: Mapping[str, Any], said: str, loaded: tuple[Any, Any]
) -> None:
    with pytest.raises(UsageError) as error:
        _prepared(name, loaded, options)
    assert said in error.value.message


@pytest.mark.parametrize(("name", "safe"), [("representation", SAFE[:5]), ("representation", []), ("gradient", [])])
def test_anchors_that_cannot_be_used_are_refused(name: str, safe: Any, loaded: tuple[Any, Any]) -> None:
    screen: Any = load_plugin("screen", name)
    with pytest.raises(UsageError, match="anchors"):
        screen.prepare(ScreenSetup(*loaded, {"harmful": HARMFUL[: len(HARMFUL)], "safe": safe}, 0))


@pytest.mark.parametrize("name", SCREENS)
def test_a_row_that_cannot_be_scored_has_no_score(name: str, loaded: tuple[Any, Any]) -> None:
    screen = _prepared(name, loaded, {"max_length": 64})
    with pytest.raises(RunError, match="its prompt fills max_length"):
        screen.score([_row("word " * 80, "Yes.")])
    with torch.no_grad():
        loaded[0].model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(RunError, match="not a finite number"):
        screen.score([_row("Say it.", "Yes.")])


def test_a_gradient_that_is_zero_has_no_direction(loaded: tuple[Any, Any]) -> None:
    screen = _prepared("gradient", loaded)
    with torch.no_grad():
        for layer in loaded[0].model.layers:
            layer.self_attn.o_proj.weight.zero_()
    with pytest.raises(RunError, match="its gradient is zero"):
        screen.score([_row("Say it.", "Yes.")])


# -- the job -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCREENS)
def test_the_job_writes_one_score_per_row_in_file_order(name: str, workshop: Any, loaded: tuple[Any, Any]) -> None:
    rows = workshop.questions("sums", 70)
    folder = _job(workshop, "job", rows, screen=name, anchors=None) if name == "self_influence" else None
    folder = folder or _job(workshop, "job", rows, screen=name)
    outcome = workshop.run(folder)
    written = _scores(folder)
    assert [row["id"] for row in written] == [f"job-rows-{n}" for n in range(70)]
    assert [row["score"] for row in written] == pytest.approx(_prepared(name, loaded).score(rows), abs=2e-5)
    ordered = sorted(row["score"] for row in written)
    assert outcome["n"] == 70
    assert outcome["quantiles"]["median"] == ordered[34]
    assert outcome["quantiles"]["p90"] == ordered[62]
    assert (outcome["quantiles"]["min"], outcome["quantiles"]["max"]) == (ordered[0], ordered[-1])
    said = [row for row in workshop.progress(folder) if row["kind"] == "screened"]
    assert [(row["done"], row["total"]) for row in said] == [(64, 70), (70, 70)]
    assert [path.name for path in (folder / "scores").iterdir()] == ["scores.jsonl"]


def test_rows_are_read_in_the_words_in_which_they_are_trained(workshop: Any) -> None:
    rows = workshop.questions("sums", 3)
    system = {"role": "system", "content": "You do sums."}
    told = [{**row, "prompt": [system, *row["prompt"]]} for row in rows]
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    given = {"plain": (rows, None), "system": (rows, {"system": "You do sums."}), "own": (told, None)}
    given["template"] = (rows, {"chat_template": template})
    found = {}
    for name, (some, prompt) in given.items():
        changes = {} if prompt is None else {"prompt": prompt}
        folder = _job(workshop, name, some, screen="self_influence", anchors=None, **changes)
        workshop.run(folder)
        found[name] = [row["score"] for row in _scores(folder)]
    assert found["system"] == found["own"]
    assert all(a != b for other in ("system", "template") for a, b in zip(found["plain"], found[other], strict=True))


def test_a_job_that_was_killed_goes_on_and_ends_with_the_same_bits(workshop: Any) -> None:
    rows = workshop.questions("sums", 330)
    whole = _job(workshop, "whole", rows)
    workshop.run(whole)
    cut = _job(workshop, "cut", rows)
    changed = {
        **json.loads((cut / "job.json").read_text()),
        "rows": json.loads((whole / "job.json").read_text())["rows"],
    }
    (cut / "job.json").write_text(json.dumps(changed))
    process = workshop.start(cut)
    workshop.kill_when(process, lambda: any(row["kind"] == "screened" for row in workshop.progress(cut)))
    assert not (cut / "scores" / "scores.jsonl").exists()
    partial = cut / "scores" / "scores.partial.jsonl"
    with partial.open("ab") as stream:
        stream.write(b'{"id":"whole-rows-64","sc')
    outcome = workshop.run(cut)
    assert outcome["resumed_from"] >= 64
    assert outcome["resumed_from"] % 64 == 0
    assert (cut / "scores" / "scores.jsonl").read_bytes() == (whole / "scores" / "scores.jsonl").read_bytes()


@pytest.mark.parametrize("change", [{"seed": 4}, {"options": {"top": 2}}, {"screen": "gradient"}])
def test_scores_of_another_job_are_not_taken_over(change: Mapping[str, Any], workshop: Any) -> None:
    rows = workshop.questions("sums", 70)
    folder = _job(workshop, "job", rows)
    ids = [f"job-rows-{n}" for n in range(70)]
    foreign = b"".join(json.dumps({"id": name, "score": 9.0}).encode() + b"\n" for name in ids)
    (folder / "scores").mkdir()
    partial = folder / "scores" / "scores.partial.jsonl"
    partial.write_bytes(b'{"job":"another"}\n' + foreign)
    assert workshop.run(folder)["resumed_from"] == 0
    partial.write_bytes(_head(folder) + foreign)
    assert workshop.run(folder)["resumed_from"] == 64
    partial.write_bytes(_head(folder) + foreign)
    changed = {**json.loads((folder / "job.json").read_text()), **change}
    (folder / "job.json").write_text(json.dumps(changed))
    assert workshop.run(folder)["resumed_from"] == 0
    assert all(row["score"] != 9.0 for row in _scores(folder))


def _head(folder: Path) -> bytes:
    from safetune.worker.screen import _identity

    job = json.loads((folder / "job.json").read_text())
    screen: Any = load_plugin("screen", job["screen"])
    return json.dumps({"job": _identity(job, screen)}, separators=(",", ":")).encode() + b"\n"


def test_the_row_that_cannot_be_scored_is_named(workshop: Any) -> None:
    rows = [*workshop.questions("sums", 5), _row("word " * 80, "Yes."), *workshop.questions("sums", 2)]
    outcome = workshop.run(_job(workshop, "job", rows, options={"max_length": 64}))
    assert outcome["status"] == "error"
    assert "row job-rows-5: the screen cannot score a row: its prompt fills max_length" in outcome["message"]
    assert not (workshop.root / "job" / "scores" / "scores.jsonl").exists()


def test_a_screen_that_needs_anchors_says_so(workshop: Any) -> None:
    outcome = workshop.run(_job(workshop, "job", workshop.questions("sums", 2), anchors=None))
    assert outcome["status"] == "error"
    assert "screen representation needs anchors" in outcome["message"]


def test_rows_that_were_not_pinned_are_not_scored(workshop: Any) -> None:
    folder = _job(workshop, "job", workshop.questions("sums", 2))
    source = Path(json.loads((folder / "job.json").read_text())["rows"][0]["rows"])
    source.write_text(source.read_text() + "\n")
    assert "the playbook pins" in workshop.run(folder)["message"]


class _Broken:
    """A screen that gives what it should not."""

    name, version, needs_anchors = "broken", "1", False

    def __init__(self, score: float, too_few: bool) -> None:
        self._score, self._too_few = score, too_few

    def prepare(self, setup: ScreenSetup) -> None:
        """Nothing to do."""

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[float]:
        """Return the same score for every row, or for all but one."""
        return [self._score] * (len(rows) - self._too_few)


@pytest.mark.parametrize(
    ("score", "too_few", "said"), [(math.nan, False, "not a finite number"), (0.5, True, "gave 0 scores for 1 rows")]
)
def test_a_screen_that_gives_no_usable_score_ends_the_job(
    score: float, too_few: bool, said: str, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetune.worker.screen.load_plugin", lambda *_: _Broken(score, too_few))
    outcome = workshop.run(_job(workshop, "job", workshop.questions("sums", 2)))
    assert outcome["status"] == "error"
    assert said in outcome["message"]
    assert "row job-rows-0" in outcome["message"]


def test_encoded_rows_are_cut_and_keep_where_the_answer_begins(loaded: tuple[Any, Any]) -> None:
    row = _row("Say it.", "one two three four five six")
    whole = encoded(loaded[1], row, 512)
    cut = encoded(loaded[1], row, whole.begin + 2)
    assert cut == Encoded(whole.ids[: whole.begin + 2], whole.begin)
