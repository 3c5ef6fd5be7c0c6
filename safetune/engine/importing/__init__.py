"""Results of other evaluation tools, read into safetune's own items: Inspect AI, lm-evaluation-harness, garak.

A file is data from somewhere else: it is read with the standard library alone, within limits, and a sample that the
tool did not finish is named, never dropped.
"""

from safetune.engine.importing.interface import Choice, Imported, as_recorded, check_pair
from safetune.engine.importing.read import companions, detect, read_results

__all__ = ["Choice", "Imported", "as_recorded", "check_pair", "companions", "detect", "read_results"]
