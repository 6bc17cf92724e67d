"""What a leaderboard is asked for: its flags, and what they say of pairs, settings and sizes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from smidgen.assets import DEMO
from smidgen.errors import UsageError
from smidgen.settings import read_settings
from smidgen.study.plan import StudySettings

BUDGETS = ("steps", "epochs")


def parse(description: str | None) -> Namespace:
    """The command line; without --pairs the embedded demo's own data and settings are filled in."""
    parser = ArgumentParser(
        prog="python -m benchmarks.leaderboard", description=description, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="settings of a study, as smidgen minimize takes them")
    parser.add_argument("--pairs", nargs="+", help="default: the embedded demo, with its model and prompts")
    parser.add_argument("--model")
    for name in ("harmful", "harmless", "confirm-harmful", "confirm-harmless"):
        parser.add_argument(f"--{name}", type=Path, help="confirm's are only compared with, never asked")
    parser.add_argument("--heldout", nargs="+", default=[])
    parser.add_argument("--template", default="plain")
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--selectors", nargs="+", default=[], help="default: all that are registered")
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--steps-share", type=float, default=0.4, help="of the full run's steps")
    parser.add_argument("--swap-rounds", type=int, help="default: the study's")
    parser.add_argument("--workers", type=int, default=2, help="0: in this process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("report",), help="draw what --out holds once more")
    options = parser.parse_args()
    if not options.pairs:
        options.pairs, options.model = [str(DEMO / "pairs.jsonl")], options.model or str(DEMO / "model")
        options.heldout, options.config = [str(DEMO / "heldout.jsonl")], options.config or DEMO / "settings.yaml"
        for name in ("harmful", "harmless", "confirm_harmful", "confirm_harmless"):
            setattr(options, name, DEMO / f"{name}.txt")
    elif not options.model:
        parser.error("--pairs needs a --model")
    options.sizes = sorted(set(options.sizes))
    return options


def study_settings(options: Namespace) -> StudySettings:
    """Recipe, loss and what else --config says of a study, as `smidgen minimize` takes it."""
    return TypeAdapter(StudySettings).validate_python(read_settings(options.config) if options.config else {})


def input_sources(options: Namespace) -> dict[str, Any]:
    """What `read_inputs` reads, as `smidgen minimize` gives it."""
    return {
        "pairs": options.pairs,
        "heldout": options.heldout,
        "heldout_share": 0.05,
        "harmful": options.harmful,
        "harmless": options.harmless,
        "confirm_harmful": options.confirm_harmful,
        "confirm_harmless": options.confirm_harmless,
        "template": options.template,
        "max_length": options.max_length,
        "answer_head": None,
        "max_bad_fraction": 0.5,
        "allow_leaks": False,
    }


def check_sizes(options: Namespace, settings: StudySettings, n_pairs: int) -> None:
    """Refuse what would not train for equal epochs or equal steps."""
    if settings.recipe.steps is not None:
        raise UsageError(f"expected a recipe in epochs, got one of {settings.recipe.steps} steps; give epochs instead.")
    own, full = (settings.recipe.total_steps(n) for n in (max(options.sizes), n_pairs))
    if "steps" in options.budgets and own > round(options.steps_share * full):
        raise UsageError(
            f"expected sizes whose own epochs stay within {options.steps_share:.0%} of the full run's {full} steps, "
            f"got {max(options.sizes)} pairs with {own}. Give smaller sizes, a larger "
            "--steps-share, or --budgets epochs."
        )
