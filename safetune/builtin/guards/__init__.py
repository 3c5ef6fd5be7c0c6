"""Guards: checks on data rows before they may train a model, one file each; none imports an ML library."""
