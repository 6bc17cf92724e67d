"""What a folder or file has to show: pairs to browse, a study's curve, answers to compare; and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import UsageError
from smidgen.evaluation.human import MATCHES, HumanVotes
from smidgen.web.catalogue import Catalogue
from smidgen.web.curve import Curve
from smidgen.web.likeness import Likeness
from smidgen.web.listing import catalogue_of
from smidgen.web.material import holds_pairs, read_material


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsable:
    """Pairs, ready to be looked at; `notes` say what a reader must know about what is missing."""

    catalogue: Catalogue
    likeness: Likeness
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Everything there is to show; what a run does not hold is None."""

    name: str
    pairs: Browsable | None = None
    curve: Curve | None = None
    votes: HumanVotes | None = None


def open_holding(run: Path, *, say: Callable[[str], None] = lambda text: None) -> Holding:
    """Read what is to be shown at `run`.

    Raises:
        UsageError: Nothing there, or nothing to show.
        InvalidData: Something that cannot be read; says which.
    """
    name = run.resolve().name
    if (run / MATCHES).is_file():
        # A comparison shows nothing else: its other files would tell who wrote what.
        return Holding(name=name, votes=HumanVotes(run))
    if not run.exists() or not holds_pairs(run):
        raise UsageError(
            f"expected a folder of `prepare`, `select`, `minimize` or `compare`, or a file of pairs, got {run}, "
            f"{'which holds none of these' if run.exists() else 'which is not there'}. Give another."
        )
    say(f"reading {run}")
    material = read_material(run)
    catalogue, notes = catalogue_of(material)
    say(f"{catalogue.n:,} pairs of {run}")
    likeness = Likeness(catalogue, material.features, frozenset(pair.idx for pair in material.kept))
    curve = Curve(run) if (run / "certificate.json").is_file() else None
    pairs = Browsable(catalogue=catalogue, likeness=likeness, notes=notes)
    return Holding(name=name, pairs=pairs, curve=curve)
