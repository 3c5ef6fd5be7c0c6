"""Options of an attack, refused where they are unknown or of the wrong kind, and how a variant is named and chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON, digest
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that a playbook gives to the attack called `attack`."""

    attack: str
    options: Mapping[str, JSON]

    def whole(self, name: str, default: int, least: int = 0) -> int:
        """Return a whole number of at least `least`.

        Raises:
            UsageError: when it is something else.
        """
        value = self.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(
                f"attack {self.attack}: `{name}` must be a whole number of at least {least}, not {value!r}"
            )
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; one without a default must be given.

        Raises:
            UsageError: when it is missing, empty or no text.
        """
        value = self.options.get(name, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            said = "is missing" if value is None else f"must be a text, not {value!r}"
            raise UsageError(f"attack {self.attack}: `{name}` {said}")
        return value

    def one_of(self, name: str, allowed: Sequence[str], default: str) -> str:
        """Return one of the allowed texts.

        Raises:
            UsageError: when it is another one.
        """
        value = self.text(name, default)
        if value not in allowed:
            near = did_you_mean(value, tuple(allowed)) or f"known: {', '.join(allowed)}"
            raise UsageError(f"attack {self.attack}: `{name}` cannot be {value!r}; {near}")
        return value


def settings(attack: str, options: Mapping[str, JSON] | None, known: Sequence[str]) -> Settings:
    """Return the settings of an attack.

    Raises:
        UsageError: for an option that it does not know.
    """
    given = options or {}
    for name in given:
        if name not in known:
            near = did_you_mean(name, tuple(known)) or f"known: {', '.join(known) or 'none'}"
            raise UsageError(f'attack {attack} has no option "{name}"; {near}')
    return Settings(attack, given)


def variant(prompt: Prompt, attack: str, kind: str = "", **changes: str) -> Prompt:
    """Return the prompt with changes under an id of its own: ID~ATTACK, and -KIND where there are several."""
    item_id = f"{prompt.item_id}~{attack}{f'-{kind}' if kind else ''}"
    return replace(prompt, item_id=item_id, **changes)  # type: ignore[arg-type]


def picked(names: Sequence[str], count: int, seed: int, item_id: str) -> list[str]:
    """Return `count` of the names for one item, at most all: drawn by digest, so that the items share all names."""
    left = list(names)
    draws = range(min(count, len(left)))
    return [left.pop(int(digest([seed, item_id, draw]), 16) % len(left)) for draw in draws]
