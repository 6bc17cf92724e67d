"""`smidgen generate`: completions of prompts by one model, several each, as text to read and as JSONL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.types import ExistingFile, PositiveInt

from smidgen.cli.flags import RARE, DryRun, Out, Seed, TemplateName
from smidgen.cli.generators import PARTS, Generator, Local, endpoint_generator, local_generator
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.teacher import TeacherFlags
from smidgen.data.prompts import load_prompts
from smidgen.errors import UsageError
from smidgen.evaluation.completions import Completions
from smidgen.evaluation.completions_files import model_name, name_for, write_completions_jsonl, write_completions_text
from smidgen.evaluation.completions_text import check_label
from smidgen.evaluation.drawing import Drawing
from smidgen.models.chat.teacher import LOCAL, STORE
from smidgen.runs import read_json, remove_folder, write_json

# All but its --teacher and --model stand in --help-all only.
_FLAT_BUT_RARE = Parameter(name="*", group=Group("With --teacher", sort_key=2))
SUMMARY = "generation.json"
_NOBODY = TeacherFlags()
_STORES = tuple(f"{STORE}{end}" for end in ("", "-wal", "-shm"))
_BATCH_SIZE = 32
# Flags that an endpoint has no use for.
_LOCAL_ONLY = {"template": None, "top_k": 0, "truncate_prompt": False, "batch_size": _BATCH_SIZE, "dtype": "float32"}


def generate(
    *,
    by: Annotated[TeacherFlags, _FLAT_BUT_RARE] = _NOBODY,
    prompts: Annotated[ExistingFile, Parameter(metavar="FILE")],
    prompt_format: Annotated[Literal["lines", "blocks"] | None, Parameter()] = None,
    out: Out,
    template: TemplateName | None = None,
    completions: Annotated[PositiveInt | None, Parameter(metavar="N")] = None,
    max_new_tokens: PositiveInt = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: Annotated[int, RARE] = 0,
    stop: Annotated[tuple[str, ...], Parameter(metavar="TEXT")] = (),
    label: str = "COMPLETION",
    name: Annotated[str | None, RARE] = None,
    truncate_prompt: Annotated[bool, RARE] = False,
    batch_size: Annotated[PositiveInt, RARE] = _BATCH_SIZE,
    dtype: Annotated[str, RARE] = "float32",
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    r"""Write completions of prompts by a model, several each.

    Writes output_NAME_MODEL.txt, which is easy to read, and the same as JSONL, which `smidgen compare` takes as well;
    and generation.json, an account of model, settings and counts. A completion follows from the model, the settings,
    the seed, its prompt and its letter alone. The same command goes on where an earlier one was interrupted.

    Args:
        prompts: Text, or JSON, JSONL or CSV: a list, or a prompt column.
        prompt_format: What a prompt is in text. A block ends at a blank line. Lines where not given, unless the file
            might be meant as blocks: then it has to be said.
        completions: Of each prompt, A, B, C and so on. 3 where not given, 1 at temperature 0.
        max_new_tokens: Longest completion. How many this cuts is told.
        temperature: 0 takes the most probable token each time.
        top_p: Draw from the most probable tokens that reach this sum.
        top_k: Draw from so many most probable tokens; 0 for all.
        stop: A completion ends before this text, in which \n is a line break; repeatable.
        label: Heading of a completion, such as SUMMARY.
        name: What the files are named for, in place of the prompt file, such as shakespeare_completions.
        truncate_prompt: Keep only the end of prompts that leave no room for --max-new-tokens; counted.
        batch_size: Completions at once.
        dtype: Of the weights: float32, bfloat16 or float16. SMIDGEN_DEVICE=cuda takes a GPU.
    """
    arguments = dict(locals())
    drawing = _drawing(arguments)
    check_label(label)
    _check_flags(arguments)
    asked = load_prompts(prompts, form=prompt_format)
    model = model_name(by.model or "")
    stem = out / f"output_{name_for(name or prompts, label)}_{model}"
    inputs = [prompts] if _is_endpoint(by) else [prompts, by.model or ""]
    with claimed(out, "generate", arguments, inputs, scratch=(PARTS,), stores=_STORES):
        if (out / SUMMARY).exists() and all(path.exists() for path in _files(stem)):
            return _outcome(read_json(out / SUMMARY), stem, ["done before, nothing to do"])
        generator = _generator(arguments, asked, drawing)
        counts = {"model": model, "prompts": len(asked), "completions": len(asked) * drawing.n}
        counts["repeated_prompts"] = len(asked) - len(set(asked))
        if dry_run:
            summary = {**counts, **generator.facts}
            return Outcome(summary, "\n".join([*_about(summary), *generator.plan, "dry run: nothing written"]))
        rows, spent = generator.run(out)
        found = Completions(model=model, rows=tuple(rows), label=label, meta=dict(generator.meta))
        summary = {**counts, "cut": sum(sum(row.cut) for row in rows), "settings": found.meta, **generator.facts}
        _write(found, summary, stem)
    return _outcome(summary, stem, spent)


def _files(stem: Path) -> list[Path]:
    return [stem.with_name(stem.name + suffix) for suffix in (".txt", ".jsonl")]


def _write(found: Completions, summary: Mapping[str, Any], stem: Path) -> None:
    text, jsonl = _files(stem)
    write_completions_text(text, found)
    write_completions_jsonl(jsonl, found)
    write_json(stem.parent / SUMMARY, summary)
    if (parts := stem.parent / PARTS).exists():
        remove_folder(parts)


def _drawing(given: Mapping[str, Any]) -> Drawing:
    return Drawing(
        n=given["completions"] or (1 if given["temperature"] == 0 else 3),
        stop=tuple(_unescaped(text) for text in given["stop"]),
        **{name: given[name] for name in ("seed", "temperature", "top_p", "top_k", "max_new_tokens")},
    )


def _unescaped(text: str) -> str:
    r"""A text with the two characters \n, \t or \\ as the one that they stand for.

    >>> _unescaped(r"a\nb\\n")
    'a\nb\\n'
    """
    meant = {"n": "\n", "t": "\t", "\\": "\\"}
    return re.sub(r"\\([nt\\])", lambda found: meant[found[1]], text)


def _is_endpoint(by: TeacherFlags) -> bool:
    return by.teacher not in (None, LOCAL)


def _check_flags(given: Mapping[str, Any]) -> None:
    """UsageError where no model is named, or a flag has no use with it."""
    by: TeacherFlags = given["by"]
    if not by.model:
        raise UsageError(
            "expected --model, got none; give a folder in Hugging Face format or a hub name, or with --teacher URL a "
            "name that the endpoint knows."
        )
    if _is_endpoint(by):
        idle, takers = [name for name, default in _LOCAL_ONLY.items() if given[name] != default], "a model on this disk"
    else:
        asking = {f.name: f.default for f in fields(by) if f.name not in ("teacher", "model")}
        idle, takers = [name for name, default in asking.items() if getattr(by, name) != default], "--teacher URL"
    if idle:
        raise UsageError(f"expected --{idle[0].replace('_', '-')} with {takers} only, got it without; leave it out.")


def _generator(given: Mapping[str, Any], prompts: Sequence[str], drawing: Drawing) -> Generator:
    by: TeacherFlags = given["by"]
    if _is_endpoint(by):
        return endpoint_generator(by, prompts, drawing)
    local = Local(
        template=given["template"] or "plain",
        **{name: given[name] for name in ("truncate_prompt", "batch_size", "dtype")},
    )
    return local_generator(by.model or "", prompts, drawing, local)


def _about(summary: Mapping[str, Any]) -> list[str]:
    """What is written of which prompts, and what there is to say of those."""
    n_prompts = summary["prompts"]
    n = summary["completions"] // n_prompts
    lines = [
        f"{_counted(n, 'completion')}{' of each' * (n_prompts > 1)} of {_counted(n_prompts, 'prompt')} by "
        f"{summary['model']}"
    ]
    if repeated := summary["repeated_prompts"]:
        lines.append(f"{_counted(repeated, 'prompt')} came before and got the same completions again")
    if truncated := summary.get("truncated_prompts"):
        lines.append(f"{_counted(len(truncated), 'prompt')} lost the beginning, which left no room to write")
    if tight := summary.get("short_of_room"):
        lines.append(f"{_counted(tight, 'prompt')} left room for fewer tokens than were asked for")
    return lines


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _outcome(summary: Mapping[str, Any], stem: Path, further: Sequence[str]) -> Outcome:
    text, jsonl = _files(stem)
    limit = summary["settings"]["max_new_tokens"]
    lines = [
        *_about(summary),
        f"{summary['cut']} of {summary['completions']} completions were cut at {limit} tokens",
        *further,
        f"written to {text} and {jsonl.suffix}",
    ]
    return Outcome({**summary, "text": str(text), "jsonl": str(jsonl)}, "\n".join(lines))
