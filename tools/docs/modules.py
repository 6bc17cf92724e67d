"""Reference pages of the Python API: the stable names, and the modules that a reader of the pages imports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from importlib import import_module
from pathlib import Path

import smidgen
from tools.docs.markdown import page
from tools.docs.registered import directive, members

# Rooms of the package with what is said of them; every page of the reference's Python half is one of these.
ROOMS = {
    "pairs": ("Pairs, settings, errors", "What everything is made of."),
    "data": ("Data", "From a dataset to checked, encoded pairs, and out again; and what ships."),
    "models": ("Models", "Loading, log-probabilities, completions, chat models, rewards."),
    "training": ("Training", "Losses and other objectives, and the one loop that steps them."),
    "evaluation": ("Evaluation", "Benchmarks, judges, ratings, intervals."),
    "synthesis": ("Synthesis", "Pairs and scores that a model makes."),
    "selection": ("Selection", "From pairs to features, from features to rankings."),
    "explain": ("Explanations", "Tables, plots and conclusions from given numbers."),
    "trainers": ("Trainers", "The classes of TRL, on this engine."),
    "study": ("Studies", "Plan, search, refinement, certificate."),
    "report": ("Reports", "Pages, figures and PDF from a run's files."),
}
# What those who extend Smidgen build on, whether or not a page imports it.
BUILT_ON = (
    "smidgen.pairs",
    "smidgen.settings",
    "smidgen.errors",
    "smidgen.runs",
    "smidgen.data.prepare",
    "smidgen.data.sources",
    "smidgen.data.tokens",
    "smidgen.data.prompts",
    "smidgen.data.export.base",
    "smidgen.models.load",
    "smidgen.models.logprobs",
    "smidgen.models.generate",
    "smidgen.models.reference_store",
    "smidgen.models.rewards",
    "smidgen.models.chat.teacher",
    "smidgen.training.recipe",
    "smidgen.training.loop",
    "smidgen.training.losses.base",
    "smidgen.training.preference",
    "smidgen.training.metagradient",
    "smidgen.evaluation.judges.base",
    "smidgen.evaluation.matches",
    "smidgen.evaluation.sidebyside",
    "smidgen.evaluation.statistics",
    "smidgen.evaluation.verdicts",
    "smidgen.synthesis.task",
    "smidgen.selection.features",
    "smidgen.selection.selectors.base",
    "smidgen.explain.base",
    "smidgen.trainers",
    "smidgen.study.plan",
    "smidgen.study.certificate",
    "smidgen.report.html",
)
# Rooms too small for a page, by whose page they stand on.
_WITH = {"errors": "pairs", "settings": "pairs", "runs": "pairs", "plugins": "pairs", "assets": "data"}
_IMPORT = re.compile(r"^\s*[+>. ]*\s*(?:from|import) (smidgen\.[\w.]+)(?: import ([\w, ]+))?", re.MULTILINE)


def module_pages(docs: Iterable[Path], *, elsewhere: Set[str]) -> dict[str, str]:
    """Pages by their path below the reference's folder.

    Args:
        docs: Pages whose imports are documented.
        elsewhere: Modules, and objects in them, that other pages of the reference document.
    """
    modules = sorted({*BUILT_ON, *imported(docs)} - elsewhere)
    pages = {"python/index.md": _stable()}
    for room, (title, about) in ROOMS.items():
        own = [module for module in modules if _room(module) == room]
        pages[f"python/{room}.md"] = page(
            title, about, *(block for module in own for block in _module(module, elsewhere))
        )
    return pages


def imported(docs: Iterable[Path]) -> set[str]:
    """Modules that pages import from, such as smidgen.models.load.

    >>> _IMPORT.findall("from smidgen.data.tokens import encode_pairs, tokenise")
    [('smidgen.data.tokens', 'encode_pairs, tokenise')]
    """
    text = "\n".join(path.read_text(encoding="utf-8") for path in docs)
    return {found[1] for found in _IMPORT.finditer(text)}


def _room(module: str) -> str:
    second = module.split(".")[1]
    return _WITH.get(second, second)


def _stable() -> str:
    said = "The stable names of `import smidgen`. What stands in other modules may change between versions."
    return page("Python", said, *(directive(f"smidgen.{name}") for name in smidgen.__all__))


def _module(module: str, elsewhere: Set[str]) -> Iterator[str]:
    yield f"## {module}"
    names = getattr(import_module(module), "__all__", None)
    there = {path.rpartition(".")[2] for path in elsewhere if path.rpartition(".")[0] == module}
    if names is not None:
        yield from (directive(f"{module}.{name}", level=3) for name in names if name not in there)
    else:
        filters = ["!^_", *(f"!^{name}$" for name in sorted(there))]
        yield members(module, filters=filters)
