"""Launchers: each turns a job into a command line."""
