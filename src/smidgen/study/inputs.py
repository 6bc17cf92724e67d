"""What a study reads: pairs, held-out pairs and prompts, checked against each other before any model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.data.checks import Leak, find_leaks
from smidgen.data.holdout import hold_out, unseen
from smidgen.data.prepare import Prepared, prepare_pairs, write_quarantine
from smidgen.data.prompts import load_prompts, split_prompts
from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.pairs import PairTable, plain_pair
from smidgen.runs import content_hash, write_json
from smidgen.study.trial import PromptLists

_HELD_OUT_AT_MOST = 500


@dataclass(frozen=True, slots=True)
class StudyInputs:
    """Checked inputs.

    Attributes:
        pairs: What may be trained on, and the same as tokens.
        heldout: Pairs never trained on, for "dev" and "confirm".
        prompts: Harmful and harmless prompts of "dev" and "confirm".
        prepared: The account of the rows left out.
        twins: Dev prompts left out because confirm has them too, or nearly.
    """

    pairs: PairTable
    encoded: list[EncodedPair]
    heldout: dict[str, tuple[EncodedPair, ...]]
    prompts: dict[str, PromptLists]
    prepared: Prepared
    twins: list[Leak]


def read_inputs(
    lm: LanguageModel,
    *,
    pairs: Sequence[str],
    heldout: Sequence[str],
    heldout_share: float,
    harmful: Path | None,
    harmless: Path | None,
    confirm_harmful: Path | None,
    confirm_harmless: Path | None,
    template: str,
    max_length: int | None,
    answer_head: int | None,
    single_turn: bool,
    first: int | None,
    heldout_first: int | None,
    max_bad_fraction: float,
    allow_leaks: bool,
    out: Path,
) -> StudyInputs:
    """Read and check everything; writes quarantine.jsonl, and dev_twins.json and leaks.json where there are any.

    Raises:
        UsageError: Only one of two prompt files that belong together.
        InvalidData: Too many bad rows, or leaks that were not allowed.
    """
    most = min(max_length or lm.max_positions + 1, lm.max_positions + 1)
    common = {
        "template": template,
        "tokenizer": lm.tokenizer,
        "max_length": most,
        "answer_head": answer_head,
        "single_turn": single_turn,
        "max_bad_fraction": max_bad_fraction,
    }
    prepared = prepare_pairs(pairs, first=first, **common)
    write_quarantine(prepared.quarantine, out)
    prompts = read_prompts(harmful, harmless, confirm_harmful, confirm_harmless)
    prompts, twins = _without_twins(prompts)
    if twins:
        write_json(out / "dev_twins.json", [asdict(twin) for twin in twins])
    _refuse_leaks(prepared.pairs, prompts, out, allow_leaks)
    encoded = {pair.idx: pair for pair in prepared.encoded}
    if heldout:
        other = prepare_pairs(heldout, first=heldout_first, **common)
        candidates, candidate_tokens, kept = list(other.pairs), {p.idx: p for p in other.encoded}, list(prepared.pairs)
    else:
        kept, candidates = hold_out(prepared.pairs, heldout_share, at_most=_HELD_OUT_AT_MOST)
        candidate_tokens = encoded
    clean = unseen(candidates, kept)
    sides = {"dev": clean[::2], "confirm": clean[1::2]}
    return StudyInputs(
        pairs=PairTable(kept),
        encoded=[encoded[pair.idx] for pair in kept],
        heldout={name: tuple(candidate_tokens[pair.idx] for pair in side) for name, side in sides.items()},
        prompts=prompts,
        prepared=prepared,
        twins=twins,
    )


def read_prompts(
    harmful: Path | None, harmless: Path | None, confirm_harmful: Path | None, confirm_harmless: Path | None
) -> dict[str, PromptLists]:
    """Dev and confirm prompts: from two files split by hash, from four files, or the project's own."""
    for one, other, names in (
        (harmful, harmless, "--harmful and --harmless"),
        (confirm_harmful, confirm_harmless, "--confirm-harmful and --confirm-harmless"),
    ):
        if (one is None) != (other is None):
            raise UsageError(f"expected both {names}, or neither; got one of them.")
    if harmful is None or harmless is None:
        if confirm_harmful is not None:
            raise UsageError("confirm prompts need dev prompts beside them; give --harmful and --harmless too.")
        return {
            name: (
                tuple(load_prompts(SHIPPED_PROMPTS / f"harmful_{name}.txt")),
                tuple(load_prompts(SHIPPED_PROMPTS / f"harmless_{name}.txt")),
            )
            for name in ("dev", "confirm")
        }
    dev = load_prompts(harmful), load_prompts(harmless)
    if confirm_harmful is not None and confirm_harmless is not None:
        confirm = load_prompts(confirm_harmful), load_prompts(confirm_harmless)
    else:
        halves = [split_prompts(prompts) for prompts in dev]
        dev, confirm = tuple(half[0] for half in halves), tuple(half[1] for half in halves)
    return {"dev": (tuple(dev[0]), tuple(dev[1])), "confirm": (tuple(confirm[0]), tuple(confirm[1]))}


def _without_twins(prompts: dict[str, PromptLists]) -> tuple[dict[str, PromptLists], list[Leak]]:
    """Dev without prompts that stand, word for word or nearly so, among confirm's: search never sees those."""
    confirm = [prompt for side in prompts["confirm"] for prompt in side]
    sides, twins = [], []
    for side in prompts["dev"]:
        found = find_leaks([plain_pair(i, prompt, "", "") for i, prompt in enumerate(side)], confirm)
        gone = {leak.idx for leak in found}
        sides.append(tuple(prompt for i, prompt in enumerate(side) if i not in gone))
        twins += found
    return {**prompts, "dev": (sides[0], sides[1])}, twins


def _refuse_leaks(pairs: PairTable, prompts: dict[str, PromptLists], out: Path, allow_leaks: bool) -> list[Leak]:
    benchmark = [prompt for lists in prompts.values() for side in lists for prompt in side]
    leaks = find_leaks(pairs, benchmark)
    if leaks:
        write_json(out / "leaks.json", [asdict(leak) for leak in leaks])
        if not allow_leaks:
            raise InvalidData(
                f"{len(leaks)} training prompts stand, word for word or nearly so, among the benchmark's; the first: "
                f"pair {leaks[0].idx}, {leaks[0].prompt!r} ~ {leaks[0].twin!r}. All are listed with their twins in "
                f"{out / 'leaks.json'}. Remove them from one side, or give --allow-leaks."
            )
    return leaks


def check_same_tokens(lm: LanguageModel, other: str, pairs: Sequence[EncodedPair]) -> None:
    """Refuse another model that would read the encoded pairs as other texts, or not whole.

    Raises:
        UsageError: Another tokenizer, or too few positions.
    """
    found = load_language_model(other)
    if found.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        raise UsageError(
            f"expected a transfer model with the tokenizer of the study's own, got another at {other!r}. "
            "Give a model of the same family, or leave --transfer-model out."
        )
    longest = max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs)
    if found.max_positions < longest - 1:
        raise UsageError(
            f"expected a transfer model with {longest - 1} positions or more, got {found.max_positions} at {other!r}. "
            "Give a longer one, or a smaller --max-length."
        )


def input_hashes(lm: LanguageModel, inputs: StudyInputs) -> dict[str, str]:
    """Hashes of what went in, after the checks."""
    return {
        "model": lm.fingerprint,
        "pairs": content_hash([(p.idx, p.prompt_text, p.chosen_text, p.rejected_text) for p in inputs.pairs]),
        "heldout": content_hash({name: [asdict(p) for p in side] for name, side in inputs.heldout.items()}),
        **{f"{name}_prompts": content_hash(lists) for name, lists in inputs.prompts.items()},
    }


def counts_line(inputs: StudyInputs) -> str:
    """How much there is of everything, in a line for people."""
    dev, confirmed = (" + ".join(str(len(side)) for side in inputs.prompts[name]) for name in ("dev", "confirm"))
    return (
        f"{len(inputs.pairs):,} pairs ({len(inputs.prepared.quarantine)} rows left out), "
        f"{sum(map(len, inputs.heldout.values()))} held-out pairs; harmful + harmless prompts: "
        f"{dev} to search ({len(inputs.twins)} left out as near-copies of others), {confirmed} to confirm"
    )
