"""Croissant records of data sets (versions 1.0 and 1.1): read as what a source declares, written for a mixture."""

from safetune.engine.data.croissant.filling import fill
from safetune.engine.data.croissant.record import Record, read_record
from safetune.engine.data.croissant.writing import DataFileEntry, Derived, Origin, croissant_json, row_fields

__all__ = ["DataFileEntry", "Derived", "Origin", "Record", "croissant_json", "fill", "read_record", "row_fields"]
