"""Judges: each labels one response."""
