"""`smidgen export`: a run's subset, or any pairs, as other programs read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from cyclopts import Parameter

from smidgen.cli.flags import FLAT, RARE, DryRun, MaxBadFraction, Out
from smidgen.cli.outcome import Outcome, claimed
from smidgen.errors import UsageError
from smidgen.settings import read_settings

if TYPE_CHECKING:
    from smidgen.data.export import Exported, Origin
    from smidgen.data.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Whether the folder also goes to a hub, which changes nothing in it."""

    push_to: Annotated[
        str | None,
        Parameter(metavar="OWNER/NAME", help="Also put the files into this new dataset on the hub; needs HF_TOKEN."),
    ] = None
    public: Annotated[
        bool, Parameter(negative=""), RARE, Parameter(help="Let everybody read what --push-to puts there.")
    ] = False

    not_identity: ClassVar[tuple[str, ...]] = ("push_to", "public")


def export(
    source: Annotated[str, Parameter(metavar="PAIRS|RUN")],
    *,
    format: Annotated[str, Parameter(metavar="NAME")],
    out: Out,
    license: Annotated[str | None, Parameter(metavar="ID")] = None,
    meta: bool = True,
    max_bad_fraction: MaxBadFraction = 0.5,
    hub: Annotated[Hub, FLAT] = Hub(),
    dry_run: DryRun = False,
) -> Outcome:
    """Write pairs as TRL, LLaMA-Factory, axolotl, OpenRLHF or Hugging Face datasets read them.

    Every folder has a dataset card, README.md, which says how the pairs were chosen and how to train on them. What a
    format cannot hold is left out, counted, and listed in quarantine.jsonl.

    Args:
        source: A run's folder, for its subset; or pairs: a file, folder or hub name.
        format: trl, llama_factory, axolotl, openrlhf or huggingface. With settings: name:key=value,…; `smidgen
            settings schema format` lists them. trl writes lists of messages, trl:template=plain texts.
        license: The data's licence as hubs name it, such as cc-by-4.0, for the card.
        meta: Write further columns too, such as why a pair was kept.
    """
    arguments = dict(locals())
    from smidgen.data.export import export_pairs
    from smidgen.data.hub import check_push, push_files
    from smidgen.data.prepare import write_quarantine

    token = check_push(hub.push_to) if hub.push_to else ""
    if hub.public and not hub.push_to:
        raise UsageError("expected --push-to beside --public, got none; say where, or leave --public out.")
    prepared, origin, inputs = _read(source, license, max_bad_fraction)
    name = re.sub(r"[^\w.-]", "_", out.resolve().name, flags=re.ASCII).strip(".") or "pairs"
    exported = export_pairs(prepared.pairs, format, name=name, origin=origin, keep_meta=meta)
    quarantine = [*prepared.quarantine, *exported.left_out]
    address = None
    if dry_run:
        sizes = exported.write(None)
    else:
        with claimed(out, "export", arguments, inputs):
            sizes = exported.write(out)
            if quarantine:
                write_quarantine(quarantine, out)
        if hub.push_to:
            address = push_files({path: out / path for path in sizes}, hub.push_to, token, public=hub.public)
    result, lines = _told(exported, prepared, format, sizes)
    result |= {"out": None if dry_run else str(out), "pushed_to": address}
    lines.append("dry run: nothing written" if dry_run else f"written to {out}")
    lines += [f"put to {address}"] if address else []
    return Outcome(result, "\n".join(lines), len(quarantine))


def _told(
    exported: Exported, prepared: Prepared, format: str, sizes: Mapping[str, int]
) -> tuple[dict[str, Any], list[str]]:
    """What was made, for programs and for people."""
    from smidgen.data.checks import EXPLANATIONS

    left_out = Counter(row.reason for row in [*prepared.quarantine, *exported.left_out])
    result: dict[str, Any] = {
        "format": format,
        "pairs": len(exported.pairs),
        "left_out": dict(left_out),
        "files": dict(sizes),
        "renamed_columns": dict(exported.meta.renamed),
        "columns_as_text": list(exported.meta.as_text),
        "dropped_columns": list(prepared.dropped_columns),
    }
    lines = [
        f"{len(exported.pairs):,} pairs as {format}",
        *(f"  {n:>6} {reason}: {EXPLANATIONS[reason]}" for reason, n in left_out.items()),
        *(f"  column {old} is written as {new}" for old, new in exported.meta.renamed.items()),
        *(f"  column {column} is written as text" for column in exported.meta.as_text),
        *(f"  column {column} is not written: neither text nor number" for column in prepared.dropped_columns),
        *(f"  {path} ({n_bytes:,} bytes)" for path, n_bytes in sizes.items()),
    ]
    return result, lines


def _read(source: str, license: str | None, max_bad_fraction: float) -> tuple[Prepared, Origin, list[Path | str]]:
    """The pairs, what their card says of them, and the files that both come from."""
    from smidgen.data.export import Origin
    from smidgen.data.links import refuse_links_and_pipes
    from smidgen.data.prepare import prepare_pairs
    from smidgen.data.subsets import SUBSET, read_subset
    from smidgen.selection.features import WORK

    run = Path(source)
    if not (run / SUBSET).is_file():
        if (run / "study.sqlite").is_file():
            raise UsageError(f"expected {SUBSET} in the run {run}, got none; let the run end first, or give pairs.")
        prepared = prepare_pairs(source, max_bad_fraction=max_bad_fraction)
        return prepared, Origin(sources=[_name(source)], license=license), [source]
    refuse_links_and_pipes(run, beside=(WORK,))
    prepared = read_subset(run)
    found = [run / name for name in (SUBSET, "certificate.json", "settings.yaml") if (run / name).is_file()]
    settings = read_settings(run / "settings.yaml") if run / "settings.yaml" in found else {}
    told = _certified(run) if run / "certificate.json" in found else _selected(settings, len(prepared.pairs))
    sources = [_name(str(name)) for name in settings.get("pairs") or [source]]
    return prepared, Origin(sources=sources, license=license, **told), [*found]


def _name(source: str) -> str:
    """A source's name for people who have not its folder: a file's or folder's own, a hub dataset's whole."""
    path = Path(source)
    return path.resolve().name if path.exists() or path.is_absolute() else source


def _selected(settings: Mapping[str, Any], n: int) -> dict[str, Any]:
    """What a card says of a subset without a study: how it was ranked."""
    facts = {key: settings[key] for key in ("selector", "budget", "seed") if settings.get(key) is not None}
    how = f"The {n:,} pairs that a ranking put first. No study has tested whether they are enough."
    return {"how": how, "facts": facts}


def _certified(run: Path) -> dict[str, Any]:
    """What a card says of a study's answer: its claim, on what terms, and its limits."""
    from smidgen.report.certificate import read_certificate

    found = read_certificate(run / "certificate.json")
    facts = {
        "pairs kept": found.subset_size,
        "of": found.full_size,
        "non-inferior": "yes" if found.non_inferior else "no",
        "δ": f"{found.delta:.4g}",
        "confidence": f"{found.confidence:.0%}",
        "confirm prompts, harmful + harmless": f"{found.n_harmful_prompts} + {found.n_harmless_prompts}",
        "seeds": ", ".join(map(str, found.seeds)) or found.n_seeds,
        "ranking": found.subset_arm,
    }
    return {"how": found.claim, "facts": facts, "limits": found.limits}
