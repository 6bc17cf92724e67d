"""What a run's settings say of how it was done, for the report's page on method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smidgen.errors import UsageError
from smidgen.report.artefacts import Run
from smidgen.settings import parse_spec, parse_sum


def method(run: Run) -> dict[str, Any]:
    """The facts of the method by name; None, or nothing, where the run's files do not tell."""
    loss = _setting(run, "loss")
    recipe = run.certificate.recipe
    selectors = _setting(run, "selectors")
    return {
        "loss": loss if isinstance(loss, str) else None,
        "terms": _terms(loss) if isinstance(loss, str) else [],
        "recipe": {name: f"{recipe[name]:g}" for name in _RECIPE if isinstance(recipe.get(name), (int, float))},
        "selectors": [str(name) for name in selectors] if isinstance(selectors, list) else [],
        "sizes": _numbers(_setting(run, "sizes")),
        "delta": _delta(run.settings),
        **{name: _whole(_setting(run, name)) for name in _COUNTS},
        "has_surrogate": run.certificate.surrogate_correlation is not None,
    }


_RECIPE = ("learning_rate", "weight_decay", "batch_size", "epochs")
_COUNTS = ("dev_seeds", "swap_rounds", "refine_groups", "max_new_tokens")


def _setting(run: Run, name: str) -> Any:
    """A study's setting; some runs keep those in a group of their own, or the loss beside the recipe."""
    group = run.settings.get("study")
    for known in (run.settings, group if isinstance(group, Mapping) else {}, run.certificate.recipe):
        if name in known:
            return known[name]
    return None


def _delta(settings: Mapping[str, Any]) -> str:
    """Whether the margin was "given" or "derived" from dev; "" where the settings do not tell."""
    if "delta" not in settings:
        return ""
    return "derived" if settings["delta"] is None else "given"


def _terms(loss: str) -> list[dict[str, Any]]:
    """The losses of a weighted sum, each with its settings; none where it cannot be read."""
    try:
        found = [(weight, *parse_spec(spec)) for weight, spec in parse_sum(loss)]
    except UsageError:
        return []
    return [
        {"name": name, "weight": f"{weight:g}", "settings": {key: str(value) for key, value in settings.items()}}
        for weight, name, settings in found
    ]


def _numbers(value: Any) -> list[str]:
    found = value if isinstance(value, list) else []
    return [f"{item:,}" for item in found if isinstance(item, int)]


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
