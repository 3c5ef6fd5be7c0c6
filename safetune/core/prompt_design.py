"""Prompts as versioned inputs: named parts in layers, and what a stage trains with or a model is served with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safetune.core.digest import JSON, digest

LAYERS = ("policy", "task", "safety")


@dataclass(frozen=True, slots=True)
class PromptPart:
    """One named text of a system prompt. `layer` is one of `LAYERS`."""

    name: str
    layer: str
    text: str

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {"name": self.name, "layer": self.layer, "text": self.text}


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """How a conversation is put into words: a system message of parts, in this order, and a chat template.

    `chat_template` is the text of a Jinja template; empty leaves the model's own.
    """

    name: str
    parts: tuple[PromptPart, ...] = ()
    chat_template: str = ""

    @property
    def system(self) -> str:
        """The system message, its parts separated by an empty line; empty without parts."""
        return "\n\n".join(part.text for part in self.parts)

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The JSON form that enters digests."""
        return {
            "parts": [part.identity for part in self.parts],
            "chat_template": digest(self.chat_template) if self.chat_template else "",
        }

    @property
    def wording(self) -> Mapping[str, JSON]:
        """What of it reaches a model, as it enters digests: names change nothing. Empty where it is the model's own."""
        told: dict[str, JSON] = {"system": self.system} if self.system else {}
        return told | ({"chat_template": digest(self.chat_template)} if self.chat_template else {})

    def of_layer(self, layer: str) -> tuple[str, ...]:
        """Return the names of the parts of a layer."""
        return tuple(part.name for part in self.parts if part.layer == layer)


@dataclass(frozen=True, slots=True)
class PromptDesign:
    """All templates of a playbook; `serving` is the one a model is measured and served with, None for its own."""

    templates: tuple[PromptTemplate, ...] = ()
    serving: PromptTemplate | None = None

    def template(self, name: str) -> PromptTemplate | None:
        """Return the template called `name`, or None."""
        return next((template for template in self.templates if template.name == name), None)
