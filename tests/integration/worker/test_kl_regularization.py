"""The KL term against brute force, its lower bound, and what it may not change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import UsageError
from safetune.protocols import TechniqueSetup

torch = pytest.importorskip("torch")

from safetune.builtin.techniques.kl_regularization import KLRegularization, coarse, divergence, encode  # noqa: E402


@pytest.fixture
def pair(tiny_model: Path) -> tuple[Any, Any]:
    """The tiny model, made sharper so that distributions differ, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(4.0)
    return model, AutoTokenizer.from_pretrained(tiny_model)


def prepared(pair: tuple[Any, Any], rows: Sequence[Any], kept: int, steps: int = 3, **options: Any) -> KLRegularization:
    technique = KLRegularization(kept=kept)
    technique.prepare(TechniqueSetup(pair[0], pair[1], {"anchors": rows}, {"anchors": 1.0}, options, 5, steps))
    return technique


def moved(model: Any) -> Any:
    """Return a copy of the model with every weight changed a little, deterministically."""
    import copy

    policy = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05 * weight.std() * torch.randn(weight.shape, generator=generator))
    return policy


def brute_force(reference: Any, policy: Any, tokenizer: Any, rows: Sequence[Any]) -> Any:
    """Return the mean over completion tokens of the full KL, one row at a time and without padding."""
    terms = []
    for row in rows:
        ids, begin = encode(tokenizer, row)
        tokens = torch.tensor([ids])
        with torch.no_grad():
            p = torch.log_softmax(reference(tokens).logits[0, begin - 1 : -1].double(), -1)
        q = torch.log_softmax(policy(tokens).logits[0, begin - 1 : -1].double(), -1)
        terms.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(terms).mean()


def test_the_exact_form_equals_brute_force_in_value_and_gradient(workshop: Any, pair: tuple[Any, Any]) -> None:
    rows = workshop.questions("anchor", 2)
    technique = prepared(pair, rows, kept=10**6, weight=0.7)
    policy, other = moved(pair[0]), moved(pair[0])

    term: Any = technique.penalty(policy, 0)
    term.backward()
    expected = 0.7 * brute_force(pair[0], other, pair[1], rows)
    expected.backward()

    assert expected.item() > 0.01
    assert term.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, ours), theirs in zip(policy.named_parameters(), other.parameters(), strict=True):
        scale = theirs.grad.abs().max().item()
        assert scale > 0, name
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5 * scale, rtol=1e-4), name


def test_the_kept_form_is_below_the_full_kl_and_near_it(workshop: Any, pair: tuple[Any, Any]) -> None:
    rows = workshop.questions("anchor", 2)
    policy = moved(pair[0])
    full = brute_force(pair[0], policy, pair[1], rows).item()
    values = [prepared(pair, rows, kept=kept).penalty(policy, 0).item() for kept in (1, 8, 64, 4096)]

    assert 0 < values[0] <= values[1] <= values[2] <= values[3] <= full * (1 + 1e-5)


def test_merging_outcomes_never_raises_the_divergence() -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (0.1, 1.0, 10.0, 60.0):
        p = scale * torch.randn((40, 300), generator=generator, dtype=torch.float64)
        q = scale * torch.randn((40, 300), generator=generator, dtype=torch.float64)
        every = torch.arange(300).expand(40, 300)
        full = divergence(coarse(p, every), coarse(q, every))
        for kept in (1, 5, 64, 299):
            top = p.topk(kept, -1).indices
            merged = divergence(coarse(p, top), coarse(q, top))
            assert bool((merged <= full * (1 + 1e-9) + 1e-9).all())
            assert bool((merged >= -1e-9).all())
            assert bool(merged.isfinite().all())


def test_the_tail_of_a_near_certain_token_keeps_its_digits() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0]])
    rest = coarse(logits, torch.tensor([[0]]))[0, -1].item()

    assert rest == pytest.approx(math.log(2) - 40.0, rel=1e-6)


def test_it_is_zero_with_a_zero_gradient_where_nothing_has_moved(workshop: Any, pair: tuple[Any, Any]) -> None:
    technique = prepared(pair, workshop.questions("anchor", 4), kept=64)
    term: Any = technique.penalty(pair[0], 0)
    term.backward()

    assert abs(term.item()) < 1e-6
    assert max(float(w.grad.abs().max()) for w in pair[0].parameters()) < 1e-5


def test_a_term_depends_on_the_step_alone(workshop: Any, pair: tuple[Any, Any]) -> None:
    rows = workshop.questions("anchor", 5)
    policy = moved(pair[0])
    one, two = (prepared(pair, rows, kept=64) for _ in range(2))
    forwards = [one.penalty(policy, step).item() for step in (0, 1, 2)]
    backwards = [two.penalty(policy, step).item() for step in (2, 1, 0)]

    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 3


def test_every_anchor_is_used_before_any_is_used_twice(workshop: Any, pair: tuple[Any, Any]) -> None:
    technique = prepared(pair, workshop.questions("anchor", 6), kept=8, steps=6)

    schedule = technique._schedule
    assert sorted(schedule[:6]) == list(range(6))
    assert sorted(schedule[6:]) == list(range(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wieght": 1.0}, "no option wieght"),
        ({"weight": 0}, "weight must be a number above 0"),
        ({"weight": "1"}, "weight must be a number above 0"),
        ({"anchors_per_step": 0.5}, "at least 1"),
        ({"max_length": 5}, "fills max_length"),
    ],
)
def test_a_wrong_option_is_one_clear_message(
    workshop: Any, pair: tuple[Any, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        prepared(pair, workshop.questions("anchor", 2), kept=8, **options)


def test_training_with_anchors_reads_the_same_rows_and_stays_nearer_to_the_start(workshop: Any) -> None:
    plain = workshop.train("plain", {"max_steps": 8})
    held = workshop.train("held", {"max_steps": 8}, techniques=[workshop.anchors(weight=1000.0)])
    watched = workshop.train("watched", {"max_steps": 8}, techniques=[workshop.anchors(weight=1e-9)])
    for folder in (plain, held, watched):
        assert workshop.run(folder)["status"] == "ok"

    def steps(folder: Path) -> list[Any]:
        return [row for row in workshop.progress(folder) if row["kind"] == "step"]

    drift = [row["metrics"]["kl_regularization/kl"] for row in steps(watched)]
    kept = [row["metrics"]["kl_regularization/kl"] for row in steps(held)]
    assert drift[0] == pytest.approx(0.0, abs=1e-6)
    assert kept[-1] < 0.5 * drift[-1]
    # A weight of next to nothing changes neither the order of rows nor the random numbers: the losses are the same.
    assert [row["loss"] for row in steps(watched)] == [row["loss"] for row in steps(plain)]
