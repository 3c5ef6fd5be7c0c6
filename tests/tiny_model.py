"""Make the tiny model of the tests: `python tests/tiny_model.py FOLDER GGUF`.

A Llama with 2 layers and a hidden size of 64, random weights from a seed, and the tokenizer and chat template of the
embedded model. For tests about machinery, not about language.
"""

from __future__ import annotations

import sys
from pathlib import Path


def make(folder: Path, gguf: Path) -> None:
    """Write the model, its tokenizer and its chat template into `folder`."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
    torch.manual_seed(20)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
