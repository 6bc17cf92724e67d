"""Low-rank adapters: train a few weights beside frozen ones, then fold them in.

The model outside is always a plain one, so scoring, generating, saving and resetting know nothing of adapters; inside,
the reference is the same model with the adapter off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel

if TYPE_CHECKING:
    from peft import PeftModel


@contextmanager
def adapted(lm: LanguageModel, *, rank: int, alpha: float | None = None, seed: int = 0) -> Iterator[PeftModel]:
    """Inside, `lm` has a fresh low-rank adapter on every linear layer but the head, and only it takes gradients.

    On leaving, the adapter is folded into the weights and gone; after an error it is only gone.

    Args:
        rank: Of the adapter's two factors; positive.
        alpha: The adapter's output is scaled by alpha / rank; twice the rank where None.
        seed: Of the first factor; the second starts at 0, so the model starts as it was.

    Raises:
        UsageError: A rank above the narrowest layer's width, which would have more weights than the layers.

    Yields:
        The wrapped model; inside its `disable_adapter()`, `lm` is the reference.

    Source: Hu et al. 2021, arXiv:2106.09685.
    """
    from peft import LoraConfig, get_peft_model  # here, since few runs need it and it takes seconds to load

    layers = [m for m in lm.model.modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"]
    narrowest = min(min(cast(Tensor, layer.weight).shape) for layer in layers)
    if rank > narrowest:
        raise UsageError(f"expected a lora_rank of at most {narrowest}, the model's narrowest layer; got {rank}.")
    config = LoraConfig(
        r=rank,
        lora_alpha=cast(int, 2 * rank if alpha is None else alpha),
        target_modules="all-linear",
        lora_dropout=0.0,
        # GPT-2's layers keep their weights the other way round.
        fan_in_fan_out=not isinstance(layers[0], nn.Linear),
    )
    trainable = [p for p in lm.model.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = cast("PeftModel", get_peft_model(lm.model, config))
    model: Any = wrapped.base_model
    try:
        yield wrapped
    except BaseException:
        model.unload()
        raise
    else:
        model.merge_and_unload()
    finally:
        # peft leaves a mark by which later wrapping would think the model still adapted.
        if hasattr(lm.model, "peft_config"):
            del lm.model.peft_config
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def adapter_off(lm: LanguageModel) -> Iterator[None]:
    """Inside `adapted`, and inside this, `lm` is what it was before its adapter: the reference, at no memory."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in lm.model.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
