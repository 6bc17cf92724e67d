"""Reference pages of everything that is known by a name: what registries hold, and what ships as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.assets import PRESETS, SHIPPED_PROMPTS
from smidgen.data.export import export_format
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import templates
from smidgen.evaluation.judges.base import judge
from smidgen.evaluation.patterns import SHIPPED, load_patterns
from smidgen.evaluation.reward_rules import reward_rule
from smidgen.evaluation.task_benchmarks import TaskBenchmark, benchmark
from smidgen.explain.sheet import explanation
from smidgen.selection.selectors import selector
from smidgen.settings import Registry
from smidgen.synthesis.task import TASKS, Frame, load_task, rubric_of, task_names
from smidgen.training.losses import loss
from smidgen.training.trackers import tracker
from tools.docs.markdown import anchor, code, escaped, fenced, opening_comment, page, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A registry and its page.

    Attributes:
        about: How a name is used, in Markdown.
    """

    title: str
    about: str
    registry: Registry[Any]


KINDS = {
    "losses": Kind(
        title="Losses",
        about="Each is a command, `smidgen train NAME`, and a value of `--loss`, with settings behind a colon, and in "
        'weighted sums: `--loss "dpo:beta=0.5 + 0.2*nll"`. A loss gives one value a pair and reduces nothing.',
        registry=loss,
    ),
    "selectors": Kind(
        title="Selectors",
        about="`--selector NAME:key=value,key=value`, repeatable where a study compares several.",
        registry=selector,
    ),
    "judges": Kind(
        title="Judges",
        about="`smidgen compare --judge NAME:key=value`, repeatable. "
        "Every [reward rule](reward_rules.md) is a judge too.",
        registry=judge,
    ),
    "reward_rules": Kind(
        title="Reward rules",
        about="`--reward NAME:key=value` of `smidgen train ppo`; judges by the same names.",
        registry=reward_rule,
    ),
    "formats": Kind(
        title="Export formats",
        about="`smidgen export RUN --format NAME:key=value`.",
        registry=export_format,
    ),
    "explanations": Kind(
        title="Explanations",
        about="`smidgen explain NAME`, or a section of a sheet.",
        registry=explanation,
    ),
    "templates": Kind(
        title="Templates",
        about="`--template NAME`: how a conversation becomes text.",
        registry=templates,
    ),
    "trackers": Kind(
        title="Trackers",
        about="`--track NAME`: other programs that show a training. `metrics.jsonl` is written with or without them.",
        registry=tracker,
    ),
}


def registered_pages() -> dict[str, str]:
    """Pages by their path below the reference's folder."""
    return {f"{name}.md": _registry(kind) for name, kind in KINDS.items()} | {
        "benchmarks.md": _benchmarks(),
        "refiners.md": _refiners(),
        "tasks.md": _tasks(),
        "lists.md": _lists(),
    }


def directive(path: str, *, level: int = 2, **options: object) -> str:
    """What the site's builder replaces by the documentation of a Python object."""
    given = {"heading_level": level} | options
    return "\n".join([f"::: {path}", "    options:", *(f"      {key}: {value}" for key, value in given.items())])


def members(module: str, **options: object) -> str:
    """The same for a module below a heading of the page's own: what it says of itself, and what it holds."""
    return directive(module, level=3, show_root_heading=False, show_root_toc_entry=False, **options)


def place(function: Callable[..., Any]) -> str:
    """Where a function is defined."""
    return f"{function.__module__}.{function.__qualname__}"


def _registry(kind: Kind) -> str:
    functions = sorted(kind.registry, key=lambda function: function.__name__)
    rows = ([f"[`{f.__name__}`](#{place(f)})", escaped((f.__doc__ or "").split("\n\n")[0])] for f in functions)
    return page(kind.title, kind.about, table(["Name", ""], rows), *(directive(place(f)) for f in functions))


def _benchmarks() -> str:
    blocks = [
        "## refusal",
        "`smidgen bench --model MODEL`: what a model refuses, and the number that a study searches by.",
        members("smidgen.evaluation.refusal"),
        "## surrogate",
        "The smooth stand-in for the refusal score, by which trials are ranked and pairs swapped.",
        members("smidgen.evaluation.surrogate"),
    ]
    for function in benchmark:
        blocks += [
            directive(place(function)),
            f"`smidgen bench --task TASK`, for tasks that name it. In {function().unit}.",
            members(_home(function)),
        ]
    return page("Benchmarks", *blocks)


def _home(function: Callable[..., TaskBenchmark]) -> str:
    """The module in which a benchmark's rows and measures are defined."""
    return function().measures.__module__


def _refiners() -> str:
    return page(
        "Refiners",
        "What `smidgen minimize` does with its best subsets before the final test; `--swap-rounds 0` and "
        "`--refine-groups 0` leave them out.",
        "## Swapping pairs",
        members("smidgen.study.swap"),
        "## Dropping groups of pairs",
        members("smidgen.study.minimality"),
    )


def _tasks() -> str:
    intro = "`smidgen critique --task NAME` makes pairs of it, `smidgen bench --task NAME` measures a model on it."
    rows = ([f"[`{name}`](#{anchor(name)})", escaped(load_task(name).about)] for name in task_names())
    return page("Tasks", intro, table(["Name", ""], rows), *(b for name in task_names() for b in _task(name)))


def _task(name: str) -> Iterator[str]:
    task = load_task(name)
    facts = {"wants": task.wants, "benchmark": task.benchmark or "", "prompts": task.prompts or ""}
    yield from (f"## {name}", escaped(task.about))
    yield table(["Field", "Value"], ([code(key), code(value)] for key, value in facts.items() if value))
    for title, text in {"System": task.system, "Critique": task.critique, "Revision": task.revise}.items():
        if text:
            yield from (f"**{title}**", fenced(text))
    for rubric in (None, *task.other_rubrics):
        found = rubric_of(task, rubric)
        yield from (f"**Rubric{f' {rubric}' if rubric else ''}**, {found.low:g} to {found.high:g}", fenced(found.text))
    for title, frames in task.frames.items():
        yield from (f"**Frames: {escaped(title)}**", _frames(frames))
    yield f"The file: `{TASKS.name}/{name}.yaml`."


def _frames(frames: tuple[Frame, ...]) -> str:
    return table(["Frame", "Text"], ([code(frame.name), escaped(frame.text)] for frame in frames))


def _lists() -> str:
    prompts = {path.name: len(load_prompts(path)) for path in sorted(SHIPPED_PROMPTS.glob("*.txt"))}
    return page(
        "Lists that ship",
        "## Refusal patterns",
        "`--patterns NAME`, or a file of your own. A text is taken for a refusal where it holds one of them.",
        *(block for name in SHIPPED for block in _patterns(name)),
        "## Prompts",
        table(["File", "Prompts"], ([code(name), str(n)] for name, n in prompts.items())),
        "## Presets",
        "`--preset NAME`: settings of several commands, below your own.",
        *(block for path in sorted(PRESETS.glob("*.yaml")) for block in _preset(path.stem, path.read_text("utf-8"))),
    )


def _patterns(name: str) -> Iterator[str]:
    text = (SHIPPED_PROMPTS.parent / "patterns" / f"{name}.txt").read_text(encoding="utf-8")
    yield from (f"### {name}", escaped(opening_comment(text)), fenced("\n".join(load_patterns(name).patterns)))


def _preset(name: str, text: str) -> Iterator[str]:
    yield from (f"### {name}", escaped(opening_comment(text)), fenced(text, "yaml"))


def registries() -> Mapping[str, Registry[Any]]:
    """Those that have a page, by the page's name."""
    return {name: kind.registry for name, kind in KINDS.items()}


def documented() -> set[str]:
    """Modules and functions that these pages document."""
    whole = {"smidgen.study.swap", "smidgen.study.minimality"}
    whole |= {"smidgen.evaluation.refusal", "smidgen.evaluation.surrogate", *map(_home, benchmark)}
    return whole | {place(function) for registry in (*registries().values(), benchmark) for function in registry}
