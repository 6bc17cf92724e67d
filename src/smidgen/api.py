"""The stable Python API: the commands as functions, with the same names, defaults and folders.

What is begun here can be gone on with on the command line, and the other way round: both claim a run's folder in the
same words. `import smidgen` gives these names and imports what stands behind one only when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from smidgen.data.prepare import Prepared, prepare_pairs
from smidgen.data.sources import rows_in_memory
from smidgen.errors import UsageError

Rows = Iterable[Mapping[str, Any]]


def load_pairs(source: str | Path | Sequence[str | Path] | Rows, **settings: Any) -> Prepared:
    """Checked pairs, as `smidgen prepare` has them, with an account of every row left out.

    Args:
        source: A file, a folder or a hub name, or several; or rows that are there already, such as a list of dicts or a
            `datasets.Dataset`.
        settings: See `smidgen.data.prepare.prepare_pairs`, such as max_bad_fraction.

    Raises:
        UsageError: A source or setting that cannot be taken as given.
        InvalidData: Data that is empty or unreadable, or has too many bad rows.

    >>> load_pairs([{"prompt": "Hi", "chosen": "Hello.", "rejected": "Go away."}]).pairs[0].chosen_text
    'Hello.'
    """
    if isinstance(source, str | Path):
        return prepare_pairs(source, **settings)
    listed: list[Any] = list(source)
    if listed and all(isinstance(item, str | Path) for item in listed):
        return prepare_pairs(listed, **settings)
    return prepare_pairs(rows_in_memory(listed), **settings)


def minimize(
    pairs: str | Path | Sequence[str | Path],
    *,
    model: str | Path,
    out: str | Path,
    heldout: str | Path | Sequence[str | Path] = (),
    aligned: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Find the smallest subset that aligns as well as all pairs: `smidgen minimize`.

    Stopped at any moment and called again with the same arguments, it goes on where it was.

    Args:
        pairs: A file, folder or hub name, or several.
        model: The SFT model: a folder in Hugging Face format, or a hub name.
        out: The run's folder; other work there is never overwritten.
        heldout: Pairs never trained on; without it, some of `pairs` are held out.
        aligned: The same model after training on all pairs, if there is one.
        settings: Every other flag of the command under its name, such as harmful, harmless, template, delta or
            confirm_seeds; recipe is a mapping, selector (or selectors) a list. workers is 0 unless given, for trials in
            this process: a script that gives more needs `if __name__ == "__main__":` around the call.

    Returns:
        The certificate, as certificate.json has it; after a dry run, how much there is to do.

    Raises:
        UsageError: A setting that is unknown or cannot be taken, or a folder that holds other work.
        InvalidData: Too few usable pairs, or leaks.
    """
    from smidgen.cli.study import minimize as command
    from smidgen.study.plan import StudySettings

    if "selector" in settings and "selectors" not in settings:  # the flag's name, and a preset's
        settings["selectors"] = settings.pop("selector")
    frozen = {field.name for field in fields(StudySettings)}
    of_command = set(command.__annotations__) - {"pairs", "model", "out", "heldout", "aligned", "settings"}
    if unknown := sorted(settings.keys() - frozen - of_command):
        near = get_close_matches(unknown[0], frozen | of_command, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown setting {unknown[0]!r}; `smidgen settings schema minimize` lists them.{hint}")
    own: dict[str, Any] = {"workers": 0} | {name: value for name, value in settings.items() if name in of_command}
    for name in (f"{which}{kind}" for which in ("", "confirm_", "public_") for kind in ("harmful", "harmless")):
        own[name] = None if own.get(name) is None else Path(own[name])
    outcome = command(
        out=Path(out),
        pairs=_listed(pairs),
        model=str(model),
        heldout=tuple(_listed(heldout)),
        aligned=None if aligned is None else str(aligned),
        settings=_study_settings({name: value for name, value in settings.items() if name in frozen}),
        **own,
    )
    return dict(outcome.data)


def export(source: str | Path, format: str, *, out: str | Path, **settings: Any) -> dict[str, Any]:
    """Write a run's subset, or pairs, as other programs read them: `smidgen export`.

    Args:
        source: A run's folder, or a file, folder or hub name of pairs.
        format: Such as "trl" or "llama_factory:formatting=alpaca".
        out: The folder to write; other work there is never overwritten.
        settings: license, meta, max_bad_fraction, dry_run.

    Returns:
        How many pairs were written, what was left out, and the files.

    Raises:
        UsageError: A format or setting that cannot be taken, or a folder that holds other work.
        InvalidData: No pair that the format can hold.
    """
    from smidgen.cli.export import export as command

    known = {"license", "meta", "max_bad_fraction", "dry_run"}
    if unknown := sorted(settings.keys() - known):
        raise UsageError(f"unknown setting {unknown[0]!r}; expected one of: {', '.join(sorted(known))}")
    return dict(command(str(source), format=format, out=Path(out), **settings).data)


def _listed(sources: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]


def _study_settings(given: Mapping[str, Any]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from smidgen.study.plan import StudySettings
    from smidgen.training.recipe import Recipe

    names = [field.name for field in fields(Recipe)]
    recipe = given.get("recipe")
    if isinstance(recipe, Mapping) and (unknown := sorted(recipe.keys() - set(names))):
        raise UsageError(f"unknown setting recipe.{unknown[0]}; expected one of: {', '.join(names)}")
    try:
        return TypeAdapter(StudySettings).validate_python(given)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{problems}; `smidgen settings schema minimize` says what each may be.") from None
