"""What `smidgen compare` compares: completions from files, or drawn from models here and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen.cli.generators import Local, local_generator
from smidgen.errors import UsageError
from smidgen.evaluation.completions import Completions
from smidgen.evaluation.completions_files import model_name, read_completions, write_completions_jsonl
from smidgen.evaluation.drawing import Drawing

FOLDER = "completions"


@dataclass(frozen=True, slots=True)
class Contender:
    """A model in the comparison.

    Attributes:
        source: A file of completions, a folder that `smidgen generate` made, a model's folder or its hub name.
        name: That the user gave it; empty where its file or folder says it.
    """

    source: str
    name: str = ""

    @property
    def is_model(self) -> bool:
        """Whether its completions are still to be drawn."""
        path = Path(self.source)
        if path.is_dir():
            return not any(path.glob("output_*.jsonl"))
        return not path.exists() and path.suffix not in (".txt", ".jsonl", ".gz")


def contender_of(text: str) -> Contender:
    """A contender from the command line: `SOURCE`, or `NAME=SOURCE`.

    >>> contender_of("sft=runs/sft/model")
    Contender(source='runs/sft/model', name='sft')
    """
    name, equals, source = text.partition("=")
    if not equals or Path(text).exists():
        return Contender(text)
    if not name or not source:
        raise UsageError(f"expected NAME=SOURCE, got {text!r}; give a name, then the file, folder or hub name.")
    return Contender(source, name)


def completions_of(
    contender: Contender, prompts: Sequence[str], drawing: Drawing, local: Local, folder: Path
) -> Completions:
    """What a contender wrote: read, or drawn and kept in the folder.

    Raises:
        UsageError: Nothing there, or a model without prompts.
        InvalidData: A file that holds no completions.
    """
    if not contender.is_model:
        return read_completions(contender.source, model=contender.name or None, prompts=prompts or None)
    if not prompts:
        raise UsageError(
            f"expected --prompts for the model {contender.source!r} to write after, got none. Give a file of prompts, "
            "or completions that it wrote, as .txt or .jsonl."
        )
    name = contender.name or model_name(contender.source)
    kept = folder / FOLDER / f"output_{name}.jsonl"
    if kept.exists():
        return read_completions(kept, model=name)
    generator = local_generator(contender.source, prompts, drawing, local)
    rows, _ = generator.run(folder / FOLDER / name)
    found = Completions(model=name, rows=tuple(rows), meta=dict(generator.meta))
    write_completions_jsonl(kept, found)
    return found
