"""The kept rows of a source as they lie in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from safetune.core.digest import JSON
from safetune.core.errors import IntegrityError
from safetune.engine.data.staging import ROWS
from safetune.state.files import open_regular
from safetune.state.objects import ObjectStore


def rows_in(objects: ObjectStore, data: str, name: str) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """Yield id and content of the rows of a data object, in order; `name` is that of the source.

    Raises:
        IntegrityError: when the stored rows cannot be read.
    """
    try:
        with open_regular(objects.path(data) / ROWS) as stream:
            for line in stream:
                found = json.loads(line)
                yield str(found["id"]), found["row"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the rows of {name} cannot be read: {error}", hint="safetune verify") from error
