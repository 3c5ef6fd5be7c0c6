"""Turn whatever stopped a job into one sentence and the next thing to do."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from safetune.core.digest import JSON
from safetune.core.errors import SafetuneError, UsageError

# Libraries wrap the system's refusal in errors of their own, so the words are looked for as well as the number.
_FULL_DISK = ("no space left on device", "disk quota exceeded", "file write failed", "os error 28", "os error 122")
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")


def describe(error: BaseException) -> Mapping[str, JSON]:
    """Return the outcome that tells of `error`: status, message, hint."""
    if isinstance(error, SafetuneError):
        # What a person wrote is wrong, and not what the machine did: the conductor ends with another exit code.
        return {**_outcome(error.message, error.hint), "usage": isinstance(error, UsageError)}
    if is_no_memory(error):
        return _outcome(
            "not enough memory",
            "lower per_device_train_batch_size (and raise gradient_accumulation_steps to keep the batch) or max_length",
        )
    if is_full_disk(error):
        return _outcome("the disk is full", "free some space and run the same command again; nothing is lost")
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return _outcome(f"{type(error).__name__}: {first[:300]}", "the last part of worker.log in the job folder says more")


def is_no_memory(error: BaseException) -> bool:
    """Say whether the error means that memory (of the machine or of the GPU) ran out."""
    return isinstance(error, MemoryError) or _says(error, _NO_MEMORY)


def is_full_disk(error: BaseException) -> bool:
    """Say whether the error means that nothing more could be written."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _says(error, _FULL_DISK)


def is_expected(error: BaseException) -> bool:
    """Say whether the error is one that needs no traceback in the log."""
    return isinstance(error, SafetuneError) or is_no_memory(error) or is_full_disk(error)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)


def _outcome(message: str, hint: str) -> Mapping[str, JSON]:
    return {"status": "error", "message": message, "hint": hint}
