"""Nouns and decisions: frozen records and pure functions, standard library only, no I/O, no clock, no randomness."""
