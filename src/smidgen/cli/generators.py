"""What `smidgen generate` writes with: a model in this process, or one behind an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.progress import counted_progress
from smidgen.cli.teacher import TeacherFlags, asking_progress, estimate_data, estimate_lines, spending_lines
from smidgen.errors import SmidgenError
from smidgen.evaluation.completions import Completed
from smidgen.evaluation.drawing import Drawing
from smidgen.pairs import Scalar
from smidgen.runs import read_json, run_async, write_json

if TYPE_CHECKING:
    from smidgen.models.load import LanguageModel

PARTS = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """One way to write completions, ready.

    Attributes:
        run: Writes them all; the folder is for what it keeps between calls. Also lines for people.
        facts: Of the model and the prompts, for the run's own account.
        meta: How the completions are drawn, for their file.
        plan: What a dry run says of the work.
    """

    run: Callable[[Path], tuple[list[Completed], list[str]]]
    facts: Mapping[str, Any]
    meta: Mapping[str, Scalar]
    plan: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """How a model of this process is used.

    Attributes:
        template: Its name.
        truncate_prompt: Whether a prompt that leaves no room for a completion loses its beginning.
        batch_size: Completions at once.
        dtype: Of the weights.
    """

    template: str
    truncate_prompt: bool
    batch_size: int
    dtype: str


def drawing_of(given: Mapping[str, Any], stop: Sequence[str] = ()) -> Drawing:
    """How a command's flags say that completions are drawn: 3 of each prompt unless told otherwise, 1 of the greedy."""
    return Drawing(
        n=given["completions"] or (1 if given["temperature"] == 0 else 3),
        stop=tuple(stop),
        **{name: given[name] for name in ("seed", "temperature", "top_p", "top_k", "max_new_tokens")},
    )


def counted(n: int, noun: str) -> str:
    """A count in words.

    >>> counted(1, "prompt"), counted(2, "prompt")
    ('1 prompt', '2 prompts')
    """
    return f"{n} {noun}{'s' * (n != 1)}"


def room_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a generator's facts say of prompts that left too little room."""
    lines = []
    if truncated := facts.get("truncated_prompts"):
        lines.append(f"{counted(len(truncated), 'prompt')} lost the beginning, which left no room to write")
    if tight := facts.get("short_of_room"):
        lines.append(f"{counted(tight, 'prompt')} left room for fewer tokens than were asked for")
    return lines


def local_generator(model: str, prompts: Sequence[str], drawing: Drawing, local: Local) -> Generator:
    """By a model of this process; every batch that is done is kept, so that a killed run goes on.

    Raises:
        InvalidData: A prompt that leaves the model no position to write at, unless prompts may be truncated.
    """
    from smidgen.data.templates import load_template
    from smidgen.data.tokens import encode_prompts
    from smidgen.evaluation.complete import as_read, completed
    from smidgen.models.load import load_language_model

    lm = load_language_model(model, dtype=local.dtype)
    template = load_template(local.template, lm.tokenizer)
    asked = as_read(lm, template, prompts, drawing, truncate=local.truncate_prompt)
    lengths = [len(ids) for ids in encode_prompts(asked, template, lm.tokenizer)]
    truncated = [i + 1 for i, (prompt, text) in enumerate(zip(prompts, asked, strict=True)) if prompt != text]
    tight = sum(length + drawing.max_new_tokens > lm.max_positions for length in lengths)
    order = sorted(range(len(prompts)), key=lambda i: (lengths[i], i))

    def write(positions: Sequence[int]) -> list[Completed]:
        some, ends = [prompts[i] for i in positions], [asked[i] for i in positions]
        return completed(lm, template, some, drawing, asked=ends, batch_size=local.batch_size)

    facts = {
        "weights": _facts(lm),
        "template": template.name,
        "prompt_tokens": {"least": min(lengths), "most": max(lengths), "all": sum(lengths)},
        "truncated_prompts": truncated,
        "short_of_room": tight,
    }
    return Generator(
        run=lambda folder: (_in_parts(write, order, max(1, local.batch_size // drawing.n), folder / PARTS), []),
        facts=facts,
        meta=drawing.meta() | {"template": template.name, "fingerprint": lm.fingerprint},
        plan=[
            f"prompts of {min(lengths)} to {max(lengths)} tokens, at most "
            f"{len(prompts) * drawing.n * drawing.max_new_tokens:,} tokens to write"
        ],
    )


def endpoint_generator(flags: TeacherFlags, prompts: Sequence[str], drawing: Drawing) -> Generator:
    """By a chat model behind an endpoint; every reply is kept, so that nobody pays twice."""
    from smidgen.evaluation.complete_chat import calls, completed_by_chat
    from smidgen.models.chat.estimate import estimate
    from smidgen.models.chat.teacher import open_chat

    settings = flags.settings()
    found = estimate(calls(prompts, drawing), prices=flags.prices)

    async def ask(folder: Path) -> tuple[list[Completed], list[str]]:
        async with open_chat(settings, folder) as (chat, spending):
            with asking_progress(len(prompts) * drawing.n, spending, "generating") as show:
                rows, missing = await completed_by_chat(
                    chat, prompts, drawing, concurrency=flags.concurrency, on_done=show
                )
            if missing:
                raise SmidgenError(
                    f"expected {len(prompts) * drawing.n} replies, got {len(missing)} fewer; the first: {missing[0]}. "
                    "The others are kept: the same command, with a larger --budget where that is spent, asks for what "
                    "is missing."
                )
            return rows, spending_lines(spending)

    return Generator(
        run=lambda folder: run_async(ask(folder)),
        facts={"endpoint": estimate_data(found)},
        # The server's own luck is not ours to seed.
        meta={key: value for key, value in drawing.meta().items() if key not in ("seed", "top_k")},
        plan=estimate_lines(found),
    )


def _in_parts(
    write: Callable[[Sequence[int]], list[Completed]], order: Sequence[int], size: int, kept: Path
) -> list[Completed]:
    """The rows of all prompts, some at a time; what was written before an interruption is not written again.

    Args:
        write: The rows of the prompts at some positions.
        order: All positions, those together that are written together.
        size: Prompts at a time.
        kept: A folder for the finished parts.
    """
    rows: dict[int, Completed] = {}
    with counted_progress("generating", len(order)) as show:
        for start in range(0, len(order), size):
            positions, file = order[start : start + size], kept / f"{start}.json"
            if file.exists():
                found = [Completed(prompt, tuple(texts), tuple(cut)) for prompt, texts, cut in read_json(file)]
            else:
                found = write(positions)
                write_json(file, [[row.prompt, row.texts, row.cut] for row in found])
            rows |= dict(zip(positions, found, strict=True))
            show(len(rows))
    return [rows[i] for i in range(len(order))]


def _facts(lm: LanguageModel) -> dict[str, Any]:
    """What there is to know of a model beside its name."""
    return {
        "architecture": type(lm.model).__name__,
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "vocabulary": len(lm.tokenizer),
        "positions": lm.max_positions,
        "fingerprint": lm.fingerprint,
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "device": lm.device.type,
    }
