"""A model trained on a share of the pairs, to stand in for the one trained on all: drawn by idx, trained once."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from smidgen.data.templates import load_template
from smidgen.data.tokens import EncodedPair, encode_pairs
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.pairs import plain_pair
from smidgen.study.proxy import share_of, trained_proxy
from smidgen.training.loop import Recipe

RECIPE = Recipe(steps=2, batch_size=2, dtype="float32")


def encoded_pairs(lm: LanguageModel, n: int = 20) -> Sequence[EncodedPair]:
    pairs = [plain_pair(i, f"Name tree {i}.", "The oak.", "I can't help.") for i in range(n)]
    return encode_pairs(pairs, load_template("plain"), lm.tokenizer)[0]


def test_shares_are_nested_and_do_not_follow_the_order_of_rows(tiny: LanguageModel) -> None:
    pairs = encoded_pairs(tiny)
    quarter, half = ({p.idx for p in share_of(pairs, share, 0)} for share in (0.25, 0.5))
    assert len(quarter) == 5
    assert quarter < half
    assert {p.idx for p in share_of(pairs[::-1], 0.25, 0)} == quarter != {p.idx for p in share_of(pairs, 0.25, 1)}
    assert share_of(pairs, 1.0, 0) == pairs


def test_a_proxy_is_trained_once_and_differs_from_where_it_started(tiny: LanguageModel, tmp_path: Path) -> None:
    save_language_model(tiny, tmp_path / "sft", card="")
    pairs, work = encoded_pairs(tiny), tmp_path / "work"
    first = trained_proxy(tmp_path / "sft", pairs, share=0.5, seed=0, work=work, recipe=RECIPE)
    assert first.fingerprint != tiny.fingerprint
    (folder,) = work.glob("proxy-*")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = trained_proxy(tmp_path / "sft", pairs, share=0.5, seed=0, work=work, recipe=RECIPE)
    assert again.fingerprint == first.fingerprint
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    trained_proxy(tmp_path / "sft", pairs, share=1.0, seed=0, work=work, recipe=RECIPE)
    assert len(list(work.glob("proxy-*"))) == 2


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_is_a_share(tiny: LanguageModel, tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="above 0 and up to 1"):
        trained_proxy("nowhere", encoded_pairs(tiny), share=share, seed=0, work=tmp_path)
