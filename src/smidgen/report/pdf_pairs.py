"""The part of a PDF report that shows texts of the data and of models: kept pairs with reasons, and completions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from smidgen.report.artefacts import Answer, KeptPair, Run
from smidgen.report.contents import typical_words
from smidgen.report.contents_figure import distributions_label, distributions_print
from smidgen.report.pdf_text import said
from smidgen.report.reasons import facts
from smidgen.report.samples import COLUMNS, Sample, SideBySide
from smidgen.report.view import MOST_PAIRS, clip, count, kinds_and_distributions, percent

FIRST_PAIRS = 8
_PROMPT, _TEXT, _REASON = 180, 420, 600


def subset_values(run: Run) -> dict[str, Any]:
    """What the subset is made of, its first pairs with both answers, all pairs with reasons, and runners-up."""
    kinds, found = kinds_and_distributions(run)
    pairs = run.kept[:MOST_PAIRS]
    return {
        "kinds": [
            {
                "kind": row.kind,
                "subset": [count(row.n_subset), percent(row.subset_share), row.subset_share],
                "full": [count(row.n_full), percent(row.full_share), row.full_share],
            }
            for row in kinds
        ],
        "distributions_figure": distributions_print(found) if found else "",
        "distributions_label": distributions_label(found) if found else "",
        "medians": [[d.title, f"{d.subset_median:.3g}", f"{d.full_median:.3g}"] for d in found],
        "words": [
            [group.kind, ", ".join(f"{word} {n}" for word, n in group.words)] for group in typical_words(run.kept)
        ],
        "n_kept": count(len(run.kept)),
        "n_listed": count(len(pairs)),
        "first_pairs": [_pair(pair, i) for i, pair in enumerate(pairs[:FIRST_PAIRS], 1)],
        "pairs": [_pair_row(pair, i) for i, pair in enumerate(pairs, 1)],
        "runners_up": [_pair_row(pair, i) for i, pair in enumerate(run.runners_up, 1)],
        "has_metagradients": any("metagradient" in pair.extra for pair in pairs),
    }


def _pair_row(pair: KeptPair, position: int) -> dict[str, Any]:
    kind, reason = pair.extra.get("kind", ""), pair.extra.get("reason", "")
    if kind not in reason:
        reason = f"{kind}: {reason}" if reason else kind
    return {
        "rank": pair.extra.get("rank", str(position)),
        "idx": str(pair.idx),
        "prompt": said(pair.prompt, _PROMPT, one_line=True),
        "reason": said(reason, _REASON, one_line=True),
        "metagradient": _signed(pair.extra.get("metagradient", "")),
    }


def _signed(text: str) -> str:
    """A number with its sign and two digits; nothing for what is none."""
    try:
        value = float(text)
    except ValueError:
        return ""
    return f"{value:+.2g}".replace("-", "−") if math.isfinite(value) else ""


def _pair(pair: KeptPair, position: int) -> dict[str, Any]:
    extra = pair.extra
    source = extra.get("source", "")
    return {
        **_pair_row(pair, position),
        "prompt": said(pair.prompt, _TEXT),
        "chosen": said(pair.chosen, _TEXT),
        "rejected": said(pair.rejected, _TEXT),
        "where": clip(source, _PROMPT) + (f", row {extra['source_row']}" if source and extra.get("source_row") else ""),
        "facts": facts(pair),
        "twin": _twin(extra) if extra.get("twin_idx") else None,
    }


def _twin(extra: Mapping[str, str]) -> dict[str, Any]:
    text = f"Its nearest twin left out, idx {extra['twin_idx']}, alike {extra.get('twin_similarity', '–')}: "
    prompt, reason = (" ".join(extra.get(f"twin_{name}", "").split()) for name in ("prompt", "reason"))
    return said(f"{text}“{clip(prompt, _PROMPT)}”{f', {reason}' if reason else ''}", _PROMPT + _REASON)


def sample_values(found: Sample) -> dict[str, Any]:
    """Completions of one class of prompts, side by side."""
    names = {"base": "base", "subset": "subset", "full": "full data"}
    return {
        "title": "Harmful prompts" if found.harmful else "Harmless prompts",
        "n_prompts": found.n_prompts,
        "refused": ", ".join(f"{names[arm]} {n}" for arm, n in found.n_refused.items()),
        "n_differ": found.n_differ,
        "rows": [_side_by_side(row) for row in found.shown],
    }


def _side_by_side(row: SideBySide) -> dict[str, Any]:
    return {
        "prompt": said(row.prompt, _PROMPT),
        "differ": row.differ,
        "answers": [_answer(row.answers.get(arm)) for arm in COLUMNS],
    }


def _answer(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"said": said(answer.completion.strip(), _TEXT), "refused": answer.refused}
