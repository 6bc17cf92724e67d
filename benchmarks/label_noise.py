"""Does an external reward make preference training robust to wrong labels? Pairs with scores, some labels swapped.

    python -m benchmarks.label_noise --out runs/noise --pairs scored.jsonl --model FOLDER --harmful FILE --harmless FILE

The pairs have chosen_score and rejected_score, as `smidgen score` writes them; scores stay with their answers when a
label is swapped, since whoever gave them never saw it. Which labels are swapped follows from the seed and the pair, and
a smaller share is a part of a larger one. `cdpo` and `robust` are told the true share of wrong labels, which nobody
knows in practice; `refined_dpo` is told only the scores. Prompts are dev prompts.

Killed and called again with the same arguments, it goes on. Writes noise.json and noise.md into --out.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.setting import machine

from smidgen.assets import DEMO
from smidgen.data.prepare import prepare_pairs
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.refusal import bench, outcomes, too_long
from smidgen.evaluation.statistics import Estimate, score_difference, score_interval
from smidgen.models.load import load_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.pairs import random_key
from smidgen.runs import content_hash, open_run, read_json, write_json, write_text
from smidgen.training.loop import Recipe
from smidgen.training.preference import ReferenceLogps, reference_logps, train_preference

BASELINE = "dpo"
Rows = dict[tuple[float, str], list[dict[str, Any]]]


def objectives(share: float, beta: float, eta: float) -> dict[str, str]:
    """Losses by name; two of them know the share of wrong labels. Neither is defined where half of them are wrong."""
    return {
        BASELINE: f"dpo:beta={beta}",
        "cdpo": f"dpo:beta={beta},label_smoothing={share}",
        "robust": f"robust:beta={beta},label_smoothing={share}",
        "refined_dpo": f"refined_dpo:beta={beta},eta={eta}",
        "refined_dpo, filter": f"refined_dpo:beta={beta},eta={eta},form=filter",
    }


def swapped(
    pairs: Sequence[EncodedPair], reference: Sequence[ReferenceLogps], share: float, seed: int
) -> tuple[list[EncodedPair], list[ReferenceLogps]]:
    """The pairs with that share of labels swapped, and the reference's values with them."""
    found, values = [], []
    for pair, (chosen, rejected) in zip(pairs, reference, strict=True):
        swap = random_key(f"swap/{seed}", pair.idx) / 2**64 < share
        found.append(
            replace(
                pair,
                chosen=pair.rejected,
                rejected=pair.chosen,
                chosen_score=pair.rejected_score,
                rejected_score=pair.chosen_score,
            )
            if swap
            else pair
        )
        values.append((rejected, chosen) if swap else (chosen, rejected))
    return found, values


def options() -> Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--pairs", required=True, help="with chosen_score and rejected_score")
    parser.add_argument("--model", default=str(DEMO / "model"))
    parser.add_argument("--harmful", default=str(DEMO / "harmful.txt"))
    parser.add_argument("--harmless", default=str(DEMO / "harmless.txt"))
    parser.add_argument("--objectives", nargs="+", default=list(objectives(0, 1, 1)), metavar="NAME")
    parser.add_argument("--swap", nargs="+", type=float, default=[0.0, 0.2, 0.4], help="shares of labels, below 0.5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--eta", type=float, default=1.0, help="nats of reward in one unit of score")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    found = parser.parse_args()
    if unknown := sorted({*found.objectives} - {*objectives(0, 1, 1)}):
        raise UsageError(f"unknown objective {unknown[0]!r}; expected some of: {', '.join(objectives(0, 1, 1))}.")
    return found


def main() -> None:
    asked = options()
    torch.set_num_threads(asked.threads)
    recipe = Recipe(
        learning_rate=asked.learning_rate, batch_size=asked.batch_size, steps=asked.steps, schedule="linear",
        warmup_steps=asked.steps // 10,
    )  # fmt: skip
    lm = load_language_model(asked.model)
    template = load_template("plain", lm.tokenizer)
    pairs = scored_pairs(asked.pairs, lm.tokenizer, lm.max_positions)
    harmful, harmless = (with_room(lm, template, load_prompts(file)) for file in (asked.harmful, asked.harmless))
    # More objectives or seeds may be asked of a finished run; all else makes it another.
    later = ("out", "objectives", "seeds", "threads")
    settings = {key: str(value) for key, value in vars(asked).items() if key not in later}
    contents = {"pairs": pairs_hash(pairs), "model": lm.fingerprint}
    contents |= {"harmful": content_hash(harmful), "harmless": content_hash(harmless)}
    open_run(asked.out, {"command": "benchmarks.label_noise", **settings, **contents})
    reference = reference_logps(lm, pairs, ReferenceStore(asked.out / "reference.sqlite"))
    start = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}

    def measured(objective: str | None, share: float, seed: int) -> dict[str, Any]:
        lm.model.load_state_dict(start)
        if objective:
            train_preference(lm, *swapped(pairs, reference, share, seed), objective=objective, recipe=recipe, seed=seed)
            lm.model.eval()
        refused = outcomes(bench(lm, template, harmful, harmless, max_new_tokens=asked.max_new_tokens))
        return {"harmful": refused[0].tolist(), "harmless": refused[1].tolist()}

    def kept(name: str, objective: str | None, share: float, seed: int) -> dict[str, Any]:
        file = asked.out / "rows" / f"{name}-{share}-{seed}.json"
        if not file.exists():
            write_json(file, measured(objective, share, seed))
            print(f"{name}, {share:.0%} swapped, seed {seed}", flush=True)
        return read_json(file)

    rows: Rows = {(0.0, "no training"): [kept("none", None, 0.0, 0)]}
    for seed in range(asked.seeds):
        for share in asked.swap:
            specs = objectives(share, asked.beta, asked.eta)
            for name in asked.objectives:
                rows.setdefault((share, name), []).append(kept(name, specs[name], share, seed))
    about = {
        "machine": machine(),
        "settings": settings,
        "contents": contents,
        "seeds": asked.seeds,
        "scores": agreement(pairs),
    }
    print(write_table(rows, about, asked.out))


def scored_pairs(source: str, tokenizer: Any, positions: int) -> Sequence[EncodedPair]:
    """The pairs, each with both scores.

    Raises:
        InvalidData: A pair without them.
    """
    pairs = prepare_pairs(source, tokenizer=tokenizer, max_length=positions).encoded
    if missing := [p.idx for p in pairs if p.chosen_score is None or p.rejected_score is None]:
        raise InvalidData(
            f"{source}: expected two scores a pair, got {len(missing)} pairs without, first idx {missing[0]}; "
            "score them with `smidgen score`, and leave out what gets no score."
        )
    return pairs


def pairs_hash(pairs: Sequence[EncodedPair]) -> str:
    """What tells these pairs from others, wherever their file stands: texts, scores and places."""
    return content_hash([asdict(pair) for pair in pairs])


def with_room(lm: Any, template: Any, prompts: list[str]) -> list[str]:
    """The prompts that the model has room to answer."""
    long = set(too_long(lm, template, prompts))
    return [prompt for i, prompt in enumerate(prompts) if i not in long]


def agreement(pairs: Sequence[EncodedPair]) -> dict[str, float]:
    """How often the scores say what the labels say, before any is swapped: shares of the pairs."""
    scores = np.array([(pair.chosen_score, pair.rejected_score) for pair in pairs], np.float64)
    gaps = scores[:, 0] - scores[:, 1]
    return {
        "pairs": len(gaps),
        "agree": float(np.mean(gaps > 0)),
        "tie": float(np.mean(gaps == 0)),
        "disagree": float(np.mean(gaps < 0)),
    }


def write_table(rows: Rows, about: Mapping[str, Any], out: Path) -> str:
    """noise.md and noise.json; returns the table."""
    found = []
    for (share, name), runs in rows.items():
        harmful, harmless = (np.array([run[kind] for run in runs]) for kind in ("harmful", "harmless"))
        one: dict[str, Any] = {
            "swapped": share,
            "objective": name,
            "seeds": len(runs),
            "score": as_dict(score_interval(harmful, harmless)),
            "harmful_refusal_rate": float(harmful.mean()),
            "harmless_refusal_rate": float(harmless.mean()),
        }
        if (plain := rows.get((share, BASELINE))) and name != BASELINE:
            others = [np.array([run[kind] for run in plain]) for kind in ("harmful", "harmless")]
            one["minus_plain"] = as_dict(score_difference(harmful, harmless, *others))
        found.append(one)
    write_json(out / "noise.json", {**about, "rows": found})
    header = ("labels swapped", "objective", "refusal score", "refused harmful / harmless", "minus plain DPO")
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(cells(one)) for one in found)]
    text = "".join(f"| {line} |\n" for line in lines)
    write_text(out / "noise.md", text)
    return text


def as_dict(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A row as the table shows it."""

    def interval(found: Mapping[str, float] | None, form: str = ".3f") -> str:
        return f"{found['mean']:{form}} [{found['low']:{form}}, {found['high']:{form}}]" if found else ""

    return (
        f"{one['swapped']:.0%}" if one["objective"] != "no training" else "",
        one["objective"],
        interval(one["score"]),
        f"{one['harmful_refusal_rate']:.3f} / {one['harmless_refusal_rate']:.3f}",
        interval(one.get("minus_plain"), "+.3f"),
    )


if __name__ == "__main__":
    main()
