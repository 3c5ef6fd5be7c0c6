"""Seeded prompt generators."""
