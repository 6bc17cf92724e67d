"""The pairs that a run worked on: from the files it names, if these still hold what it saw, else its own tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smidgen.data.links import refuse_links_and_pipes
from smidgen.data.prepare import prepare_pairs
from smidgen.errors import InvalidData, SmidgenError
from smidgen.pairs import PreferencePair
from smidgen.report.artefacts import KeptPair, read_kept
from smidgen.runs import content_hash, file_hash, read_json
from smidgen.selection.features import WORK, Features, read_features
from smidgen.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What there is to browse.

    Attributes:
        pairs: With their texts, by idx; a pair that only features know of is not among them.
        features: Of the pairs that the run ranked; None where it ranked none.
        kept: The rows of its subset, best first; empty where it has chosen none.
        runners_up: What a study says nearly made it.
        quarantine: Why rows that have an idx were left out before ranking, by idx.
        notes: What a reader must know about what is missing, one sentence or two each.
        seed: That the run ranked with.
    """

    pairs: Mapping[int, PreferencePair]
    features: Features | None = None
    kept: Sequence[KeptPair] = ()
    runners_up: Sequence[KeptPair] = ()
    quarantine: Mapping[int, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seed: int = 0


def holds_pairs(run: Path) -> bool:
    """Whether there is anything of pairs to browse at a path."""
    return run.is_file() or any((run / name).is_file() for name in ("features.parquet", "subset.csv", "pairs.jsonl"))


def read_material(run: Path) -> Material:
    """Everything about pairs at a path: a file of them, what `prepare` left, or a study or selection.

    Raises:
        UsageError: No data file, or a link that leads out of the folder.
        InvalidData: Nothing usable in it, or an artefact that cannot be read.
    """
    refuse_links_and_pipes(run, beside=(WORK,))
    if run.is_file() or (run / "pairs.jsonl").is_file():
        prepared = prepare_pairs(str(run), max_bad_fraction=1.0)
        n_out = len(prepared.quarantine)
        notes = [f"{n_out:,} rows of the file are left out: {_reasons(prepared.counts)}."] if n_out else []
        return Material(pairs={pair.idx: pair for pair in prepared.pairs}, notes=notes)
    settings = read_settings(run / "settings.yaml") if (run / "settings.yaml").is_file() else {}
    features = read_features(run / "features.parquet") if (run / "features.parquet").is_file() else None
    kept = read_kept(run / "subset.csv")
    pairs, notes = _texts(run, settings, features)
    return Material(
        pairs={pair.idx: pair for pair in pairs},
        features=features,
        kept=kept,
        runners_up=read_kept(run / "runners_up.csv"),
        quarantine=_read_quarantine(run / "quarantine.jsonl"),
        notes=notes,
        seed=settings.get("seed") or 0,
    )


def _texts(
    run: Path, settings: Mapping[str, Any], features: Features | None
) -> tuple[Sequence[PreferencePair], list[str]]:
    """The pairs of the files that a run was made from; none, and a note that says why, where they cannot be trusted."""
    here = "Shown are the texts that the run itself holds: its subset, and what nearly made it."
    sources = [str(source) for source in settings.get("pairs") or ()]
    if not sources:
        return (), [f"The run does not say where its pairs came from. {here}"]
    files = [_found(source, run) for source in sources]
    missing = [source for source, file in zip(sources, files, strict=True) if file is None]
    if missing:
        return (), [f"Not on this disk any more: {', '.join(missing)}. {here} Bring it back to see all texts."]
    try:
        pairs = prepare_pairs([str(file) for file in files if file], max_bad_fraction=1.0).pairs
    except SmidgenError as error:
        return (), [f"The run's pairs cannot be read: {error} {here}"]
    if not _same(run, pairs, sources, [file for file in files if file], features):
        return (), [f"{', '.join(sources)} no longer holds the pairs that the run was made from. {here}"]
    return pairs, []


def _found(source: str, run: Path) -> Path | None:
    """A source's file or folder, looked for from where we are and from beside the run; never on a hub."""
    places = (Path(source), run.parent / source, run / source)
    return next((place for place in places if place.exists()), None)


def _same(
    run: Path,
    pairs: Iterable[PreferencePair],
    sources: Sequence[str],
    files: Sequence[Path],
    features: Features | None,
) -> bool:
    """Whether pairs are those that the run saw, by the hash it keeps of them, or of their files."""
    studied = _json(run / "inputs.json").get("pairs")
    if isinstance(studied, str) and features is not None:
        ranked = set(features.idx.tolist())
        return studied == content_hash(
            [(p.idx, p.prompt_text, p.chosen_text, p.rejected_text) for p in pairs if p.idx in ranked]
        )
    hashes = _json(run / "run.json").get("inputs")
    if not isinstance(hashes, Mapping):
        return False
    return all(
        file.is_file() and hashes.get(source) == file_hash(file) for source, file in zip(sources, files, strict=True)
    )


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError as error:
        raise InvalidData(f"{path}: expected JSON, got {error}. Bring the file back.") from None
    return found if isinstance(found, Mapping) else {}


def _read_quarantine(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            found[row["idx"]] = f"{row['reason'].replace('_', ' ')}: {row['detail']}"
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidData(
                f"{path}: expected rows with idx, reason and detail, got {error}. Bring it back."
            ) from None
    return {idx: why for idx, why in found.items() if isinstance(idx, int)}


def _reasons(counts: Mapping[str, int]) -> str:
    known = ("rows", "pairs", "quarantined", "cut_answers")
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if name not in known)
