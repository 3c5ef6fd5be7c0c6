"""Requests as the model reads them: rows of a requests file put into token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from safetune.core.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GENERATE, LIKELIHOOD = "generate", "likelihood"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as token ids; `header` names what it shares with others: its template and its system message.

    `choices` (likelihood only) are the tokens that follow `ids`, one tuple for each choice, and `prompt` is the text
    that a judge is asked about.
    """

    digest: str
    ids: tuple[int, ...]
    max_new_tokens: int
    kind: str = GENERATE
    header: str = ""
    choices: tuple[tuple[int, ...], ...] = ()
    prompt: str = ""
    judge: str = ""

    @property
    def room(self) -> int:
        """The positions that it needs at most: its own tokens and those that come after."""
        return len(self.ids) + max([self.max_new_tokens, *(len(choice) for choice in self.choices)])


def read_requests(path: Path) -> list[Mapping[str, Any]]:
    """Return the rows of a requests file, one for each digest.

    Raises:
        UsageError: when it cannot be read or a row is of an unknown kind.
    """
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
        found = list({str(row["digest"]): row for row in rows}.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from error
    for row in found:
        if not isinstance(row.get("prompt"), str):
            raise UsageError(f"{path.name} cannot be read: request {row['digest']} has no prompt")
        kind, template = row.get("kind", GENERATE), row.get("template", "chat")
        if kind not in (GENERATE, LIKELIHOOD) or template not in ("chat", "none"):
            raise UsageError(f"{path.name} cannot be read: request {row['digest']} is {kind} with template {template}")
    return found


class Asker:
    """Puts requests into the words of one model: its chat template, its tokens, its room."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        chat_templates: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._chat_templates = chat_templates
        room = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self._room = room if isinstance(room, int) and room > 0 else None

    def ask(self, row: Mapping[str, Any]) -> Asked:
        """Return a request as token ids.

        Raises:
            UsageError: when the model cannot be asked so: no template for a system message, nothing to go on from,
                a choice without tokens, more tokens than it has positions.
        """
        kind, digest = str(row.get("kind", GENERATE)), str(row["digest"])
        text, plain = self._text(row)
        ids = self._ids(text, plain)
        if not ids and self._tokenizer.bos_token_id is not None:
            ids = [int(self._tokenizer.bos_token_id)]
        choices: list[tuple[int, ...]] = []
        if kind == LIKELIHOOD:
            ids, choices = self._choices(row, (text, plain), ids)
        elif not ids:
            raise UsageError(f"request {digest} is empty, and the model has no token to begin with")
        limit = int(row.get("max_new_tokens", 0)) if kind == GENERATE else 0
        if kind == GENERATE and limit < 1:
            raise UsageError(f"request {digest} asks for {limit} tokens; at least one is needed")
        header = json.dumps([bool(plain), _system(row), str(row.get("chat_template") or "")])
        prompt, judge = str(row["prompt"]), str(row.get("judge") or "")
        asked = Asked(digest, tuple(ids), limit, kind, header, tuple(choices), prompt, judge)
        if self._room is not None and asked.room > self._room:
            raise UsageError(
                f"request {digest[:12]} needs {asked.room} positions, the model has {self._room}",
                hint="shorten its prompt or lower max_new_tokens",
            )
        return asked

    def _text(self, row: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the whole input as text, and whether it is bare text (else the template has put it into words).

        No system message is given unless the request has one, so that the template puts in its default, as it does
        for training rows. A request that names a chat template is put into words with that one.
        """
        prompt, prefill, system = str(row["prompt"]), str(row.get("prefill") or ""), _system(row)
        if row.get("template", "chat") == "none":
            if system is not None:
                raise UsageError(f"request {row['digest']} has a system message and no template to put it in")
            return prompt + prefill, True
        given = self._given(row)
        if not (given or self._tokenizer.chat_template):
            if system:
                raise UsageError("the model has no chat template, so a system message cannot be put into words for it")
            return prompt + prefill, True
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        which = "the serving template" if given else "the model's chat template"
        try:
            told = self._tokenizer.apply_chat_template(
                messages, chat_template=given or None, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template may raise whatever it likes
            raise UsageError(f"{which} refuses a request: {str(error)[:200]}") from error
        if system and system.strip() not in told:
            raise UsageError(
                f"{which} leaves the system message out", hint="give `prompts` a chat template that has a place for it"
            )
        return str(told) + prefill, False

    def _given(self, row: Mapping[str, Any]) -> str:
        """Return the chat template that a request names, or an empty text for the model's own."""
        name = str(row.get("chat_template") or "")
        if name and name not in self._chat_templates:
            raise UsageError(f"request {row['digest']} names a chat template that the job does not have")
        return self._chat_templates[name] if name else ""

    def _ids(self, text: str, plain: bool) -> list[int]:
        """Return the tokens of a text; a chat template has its special tokens in it already."""
        return [int(token) for token in self._tokenizer(text, add_special_tokens=plain)["input_ids"]]

    def _choices(
        self, row: Mapping[str, Any], told: tuple[str, bool], ids: Sequence[int]
    ) -> tuple[list[int], list[tuple[int, ...]]]:
        """Return the tokens before all choices and those of each choice.

        Text and choice are put into tokens together. Where the last token of the text melts into the first of a choice
        it is scored with every choice, so that all have the same condition. Where nothing is left before the choices
        they follow the token that begins a text; in a model without one their first tokens have no condition.
        """
        whole = [self._ids(told[0] + str(choice), told[1]) for choice in row["choices"]]
        shared = min([_common(ids, tokens) for tokens in whole], default=0)
        before, choices = list(ids[:shared]), [tuple(tokens[shared:]) for tokens in whole]
        if not before and self._tokenizer.bos_token_id is not None:
            before = [int(self._tokenizer.bos_token_id)]
        if not choices or any(len(choice) < (1 if before else 2) for choice in choices):
            raise UsageError(f"request {row['digest']} has a choice without a token that can be scored")
        return before, choices


def _system(row: Mapping[str, Any]) -> str | None:
    """Return the system message: None for the template's own, an empty text for an empty one."""
    return None if row.get("system") is None else str(row["system"])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens are the same."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
