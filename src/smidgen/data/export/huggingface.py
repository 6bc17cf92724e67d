"""A Hugging Face dataset: Parquet, and a card whose metadata names its columns and files."""

from __future__ import annotations

from smidgen.data.export.base import Layout, export_format, prompt_chosen_rejected

_USAGE = """\
```python
from datasets import load_dataset

pairs = load_dataset("FOLDER", split="train")
```

FOLDER is this folder, or the dataset's name on a hub. The columns are those of TRL's preference format.
"""


@export_format
def huggingface(name: str, *, template: str | None = None) -> Layout:
    """data/train-00000-of-00001.parquet, for `datasets.load_dataset` and hubs.

    Args:
        name: The dataset's name.
        template: Texts by this template, plain, hh or verbatim; without it, lists of messages.

    Source: Hugging Face Hub documentation, "Dataset Cards" and "Data files Configuration".
    """
    row, reads_back = prompt_chosen_rejected(template)
    return Layout(row=row, path="data/train-00000-of-00001.parquet", usage=_USAGE, reads_back=reads_back)
