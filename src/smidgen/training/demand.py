"""What a training takes of memory at the least, known before it begins.

Lower bounds throughout, so that nothing is refused that fits; what lies between a bound and the truth is still found
out the hard way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from smidgen.models.memory import refuse_beyond, room
from smidgen.training.parts import Batch, Parts
from smidgen.training.recipe import Recipe

_MORE = "a smaller model, --lora-rank 8, or a machine with more"


def refuse_too_large_a_model(parameters: Iterable[nn.Parameter]) -> None:
    """Refuse to train weights whose gradients and AdamW's two moments have no room beside them.

    Raises:
        SmidgenError: With the figures.
    """
    # Of several processes that share the weights, each keeps its own shard only.
    trained = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    needed = sum(3 * p.numel() * p.element_size() for p in trained)
    n = sum(p.numel() for p in trained)
    refuse_beyond(
        needed, trained[0].device, what=f"the gradients and the optimiser of {n:,} trained weights", do=f"Give {_MORE}."
    )


def refuse_too_large_a_part(model: nn.Module, parts: Iterable[Batch], recipe: Recipe, device: torch.device) -> None:
    """Refuse a step's largest part where what its layers keep for the backward pass has no room.

    Only on a processor: a GPU's memory is told when it is exhausted, and parts are halved then.

    Raises:
        SmidgenError: With the figures, and the size that fits.
    """
    if device.type != "cpu" or not isinstance(parts, Parts):
        return
    each, tokens = kept_bytes_a_token(model, recipe), parts.most_tokens()
    # Looked at only where it might matter, since that costs as much as a small step.
    if each * tokens < 1 << 28:
        return
    found = room(device)
    fits = max(1, found.free // each) if found else 0
    refuse_beyond(
        each * tokens,
        device,
        what=f"{tokens:,} tokens at once",
        do=f"Give --micro-batch-tokens {fits} or less, --gradient-checkpointing, or a smaller --max-length.",
        found=found,
    )


def kept_bytes_a_token(model: nn.Module, recipe: Recipe) -> int:
    """Bytes that a model's layers keep of each token for the backward pass, at the least; 0 where nothing is known.

    With every weight trained, a layer keeps the inputs of its two norms, of its projections in and out of attention,
    queries, keys and values, and the inputs of the feed-forward's activation and of its last product: six times its
    width and twice the feed-forward's. Of these, frozen weights need half. Checkpointed layers keep their input.
    """
    config: Any = next((m.config for m in model.modules() if hasattr(getattr(m, "config", None), "hidden_size")), None)
    layers, width = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    if not layers or not width:
        return 0
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    kept = width if recipe.gradient_checkpointing else 6 * width + 2 * inner
    # Where half of the work is done in half precision, the other half may be kept in it as well.
    size = 4 if recipe.dtype == "float32" else 2
    return layers * kept * size // (2 if recipe.lora_rank and not recipe.gradient_checkpointing else 1)
