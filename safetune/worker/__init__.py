"""The child process: reads job.json, does the heavy work, writes outcome.json last. May import torch."""
