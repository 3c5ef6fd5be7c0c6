"""YAML -> Playbook, or every mistake in it with file, line and column.

Each mistake has a code: SP1xx the file and its YAML, SP2xx the shape (what `schema.json` says), SP3xx the meaning,
SP4xx the files that a playbook builds on.
"""
