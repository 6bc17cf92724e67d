"""TRL: JSONL of prompt, chosen and rejected, conversational or standard, with an explicit prompt."""

from __future__ import annotations

from smidgen.data.export.base import Layout, export_format, prompt_chosen_rejected

_USAGE = """\
```python
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

pairs = load_dataset("json", data_files="train.jsonl", split="train")
DPOTrainer(model=MODEL, args=DPOConfig(output_dir="out"), train_dataset=pairs).train()
```
"""


@export_format
def trl(name: str, *, template: str | None = None) -> Layout:
    """train.jsonl for TRL's DPOTrainer, CPOTrainer, ORPOTrainer and RewardTrainer.

    Args:
        name: The dataset's name.
        template: Texts by this template, plain, hh or verbatim (TRL's standard format), for models without a chat
            template; without it, lists of messages (TRL's conversational format).

    Source: TRL documentation, "Dataset formats and types", preference with explicit prompt.
    """
    row, reads_back = prompt_chosen_rejected(template)
    return Layout(row=row, path="train.jsonl", usage=_USAGE, reads_back=reads_back)
