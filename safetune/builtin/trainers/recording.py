"""The numbers of rows, carried from the dataset to the loss beside what the model sees, and recorded there.

A row's number is a column of the dataset. TRL keeps columns that it does not know while it tokenises, our collator
takes the column out before TRL's own collator looks, and puts the numbers of exactly these rows beside the tensors made
of them. So what is recorded is the batch itself: after shuffling, sharding over processes, skipping on resume and
filling up of uneven batches. The numbers stay on the CPU and never reach the model.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trl import pack_dataset

from safetune.core.errors import RunError
from safetune.protocols import Saw

COLUMN = "safetune_row"


class Numbered:
    """A collator that passes the numbers of rows by the one it wraps."""

    def __init__(self, collator: Callable[[Sequence[Mapping[str, Any]]], Any]) -> None:
        self._collator = collator

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Any:
        """Return the batch of the wrapped collator, and beside it the row numbers under `COLUMN`.

        A packed sequence has one number per token; each of its rows is named once.
        """
        numbers = array("I")
        plain = []
        for example in examples:
            number = example[COLUMN]
            numbers.extend(dict.fromkeys(number) if isinstance(number, list) else (number,))
            plain.append({name: value for name, value in example.items() if name != COLUMN})
        batch = self._collator(plain)
        batch[COLUMN] = numbers
        return batch


class WithRecord:
    """Mixed in before a TRL trainer: tells `saw` which rows each optimizer step sees."""

    saw: Saw | None = None

    def _set_signature_columns_if_needed(self) -> None:
        """Let the column of row numbers reach the collator."""
        this: Any = self
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if COLUMN not in this._signature_columns:
            this._signature_columns = [*this._signature_columns, COLUMN]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Record the rows of the batch and return the loss.

        Raises:
            RunError: when a batch to learn from does not say which rows it is made of.
        """
        this: Any = self
        numbers = inputs.pop(COLUMN, None)
        if self.saw is not None and this.model.training:
            if not numbers:
                raise RunError(f"a batch of step {this.state.global_step + 1} does not say which rows it is made of")
            self.saw(int(this.state.global_step), numbers, False)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]


class WithPackedRecord(WithRecord):
    """The same where rows may be packed: TRL would drop the column then, so it is packed along, token by token."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, packing: Any, *rest: Any) -> Any:
        prepare = super()._prepare_dataset  # type: ignore[misc]
        if not packing or COLUMN not in dataset.column_names:
            return prepare(dataset, processing_class, args, packing, *rest)
        whole = copy.copy(args)
        whole.max_length = None  # packing cuts by itself
        tokens = prepare(dataset, processing_class, whole, False, *rest)
        numbers = [[number] * len(ids) for number, ids in zip(tokens[COLUMN], tokens["input_ids"], strict=True)]
        spread = tokens.select_columns(["input_ids", "labels"]).add_column(COLUMN, numbers)
        packed = pack_dataset(spread, args.max_length, args.packing_strategy)
        return packed.shuffle(seed=args.seed) if args.shuffle_dataset else packed
