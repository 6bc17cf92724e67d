"""What `smidgen compare` compares: completions from files, or drawn from models here and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.cli.generators import Local, local_generator, room_lines
from smidgen.errors import UsageError
from smidgen.evaluation.completions import Completions
from smidgen.evaluation.completions_files import file_word, model_name, read_completions, write_completions_jsonl
from smidgen.evaluation.drawing import Drawing
from smidgen.runs import content_hash, read_json, remove_folder, write_json

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


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a model wrote for a comparison, and the account: its weights, and what was cut of prompts and texts."""

    completions: Completions
    facts: Mapping[str, Any]


def drawn(contender: Contender, prompts: Sequence[str], drawing: Drawing, local: Local, folder: Path) -> Drawn:
    """What a model writes, kept in the folder for the next call.

    Raises:
        UsageError: No prompts, or no such model.
        InvalidData: A prompt that leaves the model no position to write at.
    """
    _check_prompts(contender, prompts)
    name, kept, account, parts = _files(contender, folder)
    if not (kept.exists() and account.exists()):
        generator = local_generator(contender.source, prompts, drawing, local)
        rows, _ = generator.run(parts)
        found = Completions(model=name, rows=tuple(rows), meta=dict(generator.meta))
        facts = {"completions": len(rows) * drawing.n, "cut": found.n_cut, "max_new_tokens": drawing.max_new_tokens}
        write_json(account, {**facts, **generator.facts})
        write_completions_jsonl(kept, found)
    if parts.exists():
        remove_folder(parts)
    return Drawn(read_completions(kept, model=name), read_json(account))


def planned(contender: Contender, prompts: Sequence[str], drawing: Drawing, folder: Path) -> dict[str, Any]:
    """What a model would write for a comparison, and whether an earlier call has it written already.

    Raises:
        UsageError: No prompts.
    """
    _check_prompts(contender, prompts)
    name, kept, account, _ = _files(contender, folder)
    n = len(prompts) * drawing.n
    done = kept.exists() and account.exists()
    return {"model": name, "completions": n, "most_tokens": n * drawing.max_new_tokens, "written_before": done}


def planned_line(facts: Mapping[str, Any]) -> str:
    """A plan in words."""
    if facts["written_before"]:
        return f"{facts['model']}: {facts['completions']:,} completions are written already"
    return f"{facts['model']}: writes {facts['completions']:,} completions, at most {facts['most_tokens']:,} tokens"


def _check_prompts(contender: Contender, prompts: Sequence[str]) -> None:
    if not prompts:
        raise UsageError(
            f"expected --prompts for the model {contender.source!r} to write after, got none. Give a file of prompts, "
            "or completions that it wrote, as .txt or .jsonl."
        )


def _files(contender: Contender, folder: Path) -> tuple[str, Path, Path, Path]:
    """The contender's name, and where its completions, their account and unfinished parts are kept."""
    name = contender.name or model_name(contender.source)
    word = _file_word_of(name)
    kept, account, parts = (
        folder / FOLDER / file for file in (f"output_{word}.jsonl", f"{word}.json", f"parts_{word}")
    )
    return name, kept, account, parts


def _file_word_of(name: str) -> str:
    """A model's name for files: where that is not the name itself, with a hash that keeps two names apart."""
    word = file_word(name)
    return word if word == name else f"{word}-{content_hash(name)[:8]}"


def drawn_lines(facts: Mapping[str, Any]) -> list[str]:
    """What there is to say of what a model wrote."""
    cut = f"{facts['cut']} of {facts['completions']} completions were cut at {facts['max_new_tokens']} tokens"
    return [*room_lines(facts), cut]
