"""`smidgen generate`: completions of prompts by one model, several each, as text to read and as JSONL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.types import ExistingFile
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from smidgen.cli.flags import RARE, DryRun, Out, Seed, TemplateName
from smidgen.cli.generators import (
    PARTS,
    Generator,
    Local,
    counted,
    drawing_of,
    endpoint_generator,
    local_generator,
    room_lines,
)
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.teacher import NOBODY, STORES, TeacherFlags
from smidgen.data.prompts import load_prompts
from smidgen.errors import UsageError
from smidgen.evaluation.completions import Completions
from smidgen.evaluation.completions_files import model_name, name_for, write_completions_jsonl, write_completions_text
from smidgen.evaluation.completions_text import check_label
from smidgen.evaluation.drawing import Drawing
from smidgen.models.chat.teacher import LOCAL
from smidgen.runs import read_json, remove_folder, write_json
from smidgen.settings import PositiveShare

# All but its --teacher and --model stand in --help-all only.
_FLAT_BUT_RARE = Parameter(name="*", group=Group("With --teacher", sort_key=2))
SUMMARY = "generation.json"
_BATCH_SIZE = 32
# Flags that an endpoint has no use for.
_LOCAL_ONLY = {"template": None, "top_k": 0, "truncate_prompt": False, "batch_size": _BATCH_SIZE, "dtype": "float32"}


def generate(
    *,
    by: Annotated[TeacherFlags, _FLAT_BUT_RARE] = NOBODY,
    prompts: Annotated[ExistingFile, Parameter(metavar="FILE")],
    prompt_format: Annotated[Literal["lines", "blocks"] | None, Parameter()] = None,
    out: Out,
    template: TemplateName | None = None,
    completions: Annotated[PositiveInt | None, Parameter(metavar="N")] = None,
    max_new_tokens: PositiveInt = 64,
    temperature: NonNegativeFloat = 1.0,
    top_p: PositiveShare = 1.0,
    top_k: Annotated[NonNegativeInt, RARE] = 0,
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
    drawing = drawing_of(arguments, [_unescaped(text) for text in stop])
    _check_flags(arguments)
    asked = load_prompts(prompts, form=prompt_format)
    model = model_name(by.model or "")
    stem = out / f"output_{name_for(name or prompts, label)}_{model}"
    with claimed(out, "generate", arguments, _inputs(prompts, by), scratch=(PARTS,), stores=STORES):
        if (out / SUMMARY).exists() and all(path.exists() for path in _files(stem)):
            return _outcome(read_json(out / SUMMARY), stem, ["done before, nothing to do"])
        generator = _generator(arguments, asked, drawing)
        counts = {"model": model, **_counts(asked, drawing)}
        if dry_run:
            return _plan({**counts, **generator.facts}, generator.plan)
        rows, spent = generator.run(out)
        found = Completions(model=model, rows=tuple(rows), label=label, meta=dict(generator.meta))
        summary = _write(found, {**counts, "settings": found.meta, **generator.facts}, stem)
    return _outcome(summary, stem, spent)


def _inputs(prompts: Path, by: TeacherFlags) -> list[str | Path]:
    return [prompts] if _is_endpoint(by) else [prompts, by.model or ""]


def _counts(prompts: Sequence[str], drawing: Drawing) -> dict[str, int]:
    n = len(prompts)
    return {"prompts": n, "completions": n * drawing.n, "repeated_prompts": n - len(set(prompts))}


def _files(stem: Path) -> list[Path]:
    return [stem.with_name(stem.name + suffix) for suffix in (".txt", ".jsonl")]


def _plan(summary: Mapping[str, Any], plan: Sequence[str]) -> Outcome:
    return Outcome(summary, "\n".join([*_about(summary), *plan, "dry run: nothing written"]))


def _write(found: Completions, known: Mapping[str, Any], stem: Path) -> dict[str, Any]:
    """Both files and the account, which is returned; parts have had their use."""
    summary = {**known, "cut": found.n_cut}
    text, jsonl = _files(stem)
    write_completions_text(text, found)
    write_completions_jsonl(jsonl, found)
    write_json(stem.parent / SUMMARY, summary)
    if (parts := stem.parent / PARTS).exists():
        remove_folder(parts)
    return summary


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
    check_label(given["label"])
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
        f"{counted(n, 'completion')}{' of each' * (n_prompts > 1)} of {counted(n_prompts, 'prompt')} by "
        f"{summary['model']}"
    ]
    if repeated := summary["repeated_prompts"]:
        lines.append(f"{counted(repeated, 'prompt')} came before and got the same completions again")
    return [*lines, *room_lines(summary)]


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
