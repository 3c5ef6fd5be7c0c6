"""From sources to rows that may train a model: read, admit, guard, keep, trace back."""
