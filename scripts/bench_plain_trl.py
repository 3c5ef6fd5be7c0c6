"""LoRA fine-tuning with TRL and nothing else: what `safetune run` is compared with.

`accelerate launch scripts/bench_plain_trl.py SETTINGS.json`, where the settings name the model folder, a JSONL file of
rows in their order, the output folder, and the arguments of TRL and LoRA.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(settings: dict[str, Any]) -> None:
    """Train as the settings say and save the adapter."""
    import torch
    import trl.trainer.utils as fused
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    # safetune scores only the positions that have a label (safetune/builtin/trainers/lm_head.py). The same here:
    # otherwise that gain would hide what orchestration costs.
    on_triton = fused._use_triton
    fused._use_triton = lambda device: device.type == "cpu" or bool(on_triton(device))

    torch.set_num_threads(1)
    rows = [json.loads(line) for line in Path(settings["rows"]).read_text().splitlines()]
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=settings["output"],
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            train_sampling_strategy="sequential",
            **settings["train"],
        ),
        train_dataset=Dataset.from_list([{"prompt": r["prompt"], "completion": r["completion"]} for r in rows]),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **settings["lora"]),
    )
    trainer.train()
    trainer.save_model(settings["output"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
