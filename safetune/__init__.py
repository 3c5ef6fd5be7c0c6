"""safetune: fine-tuning as a release process, with a gate that can say no."""

__version__ = "0.1.0"
