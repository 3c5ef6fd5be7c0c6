"""The names of plugins that a playbook may use, and the rules of a guard where a playbook names one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from safetune.core.errors import UsageError
from safetune.plugins import KINDS, load, names


class KnownPlugins(Mapping[str, tuple[str, ...]]):
    """Names by kind of plugin; under `guard NAME` the rules of that guard, which is loaded only when somebody asks."""

    def __getitem__(self, key: str) -> tuple[str, ...]:
        """Return names, or rules; KeyError where a guard cannot be loaded, and nothing is known of its rules."""
        kind, _, name = key.partition(" ")
        if kind not in KINDS:
            raise KeyError(key)
        if not name:
            return names(kind)
        try:
            return tuple(load(kind, name).rules)  # type: ignore[attr-defined]
        except (UsageError, ImportError, AttributeError) as error:
            raise KeyError(key) from error

    def __iter__(self) -> Iterator[str]:
        """Yield the kinds."""
        return iter(KINDS)

    def __len__(self) -> int:
        """Return the number of kinds."""
        return len(KINDS)
