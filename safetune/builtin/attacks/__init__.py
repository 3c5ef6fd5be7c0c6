"""Attacks: ways to ask that try to get round a refusal. Pure texts, the same on every machine."""
