"""transformers' `TrainingArguments`, and configurations made from them, as a recipe for the one loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from dataclasses import fields
from typing import Any

import torch.distributed as dist

from smidgen.errors import UsageError
from smidgen.trainers.upkeep import unknown_trackers
from smidgen.training.loop import Recipe

# What `recipe_of` and `upkeep_of` read, and what a trainer does with files.
HONOURED = frozenset(
    {
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "bf16",
        "data_seed",
        "eval_steps",
        "eval_strategy",
        "fp16",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "activation_checkpointing",
        "learning_rate",
        "logging_steps",
        "logging_strategy",
        "lr_scheduler_type",
        "max_grad_norm",
        "max_steps",
        "num_train_epochs",
        "optim",
        "output_dir",
        "per_device_train_batch_size",
        "report_to",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "seed",
        "use_cpu",
        "warmup_ratio",
        "warmup_steps",
        "weight_decay",
    }
)
# Say how fast or how loud, not what is learned; or objects that never equal each other and that nobody gives.
_HARMLESS = {
    "accelerator_config",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "disable_tqdm",
    "do_eval",
    "do_train",
    "log_level",
    "log_level_replica",
    "logging_first_step",
    "parallelism_config",
    "per_device_eval_batch_size",
    "remove_unused_columns",
    "run_name",
}
_SCHEDULES = {"constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine"}
_ADAMW = {"adamw_torch", "adamw_torch_fused"}


def recipe_of(args: Any, n_examples: int, *, peft_config: Any = None) -> Recipe:
    """The recipe that these arguments ask for.

    Args:
        args: transformers' TrainingArguments, or a configuration that extends them.
        n_examples: Their steps are counted as transformers does: the last batch of an epoch may be smaller.
        peft_config: A peft LoraConfig, whose rank and alpha are taken; None trains all weights.

    Raises:
        UsageError: A schedule, optimiser or adapter that the loop does not have, or a number out of its range.
    """
    schedule = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if schedule not in _SCHEDULES:
        raise UsageError(f"unknown lr_scheduler_type {schedule!r}; expected one of: {', '.join(_SCHEDULES)}")
    optimiser = str(getattr(args.optim, "value", args.optim))
    betas = (args.adam_beta1, args.adam_beta2, args.adam_epsilon)
    if optimiser not in _ADAMW or betas != (0.9, 0.999, 1e-8):
        raise UsageError(
            f"expected optim to be one of {', '.join(sorted(_ADAMW))} with betas 0.9 and 0.999 and epsilon 1e-8, got "
            f"{optimiser} with {betas}; leave them at their defaults."
        )
    world = dist.get_world_size() if dist.is_initialized() else 1
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * world
    steps = args.max_steps
    if steps <= 0:
        steps = math.ceil(args.num_train_epochs * math.ceil(n_examples / batch_size))
    return Recipe(
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        batch_size=batch_size,
        steps=steps,
        schedule=_SCHEDULES[schedule],  # pyright: ignore[reportArgumentType]
        warmup_steps=args.get_warmup_steps(steps),
        max_grad_norm=args.max_grad_norm,
        dtype="float16" if args.fp16 else "bfloat16" if args.bf16 else "auto" if args.bf16 is None else "float32",
        gradient_checkpointing=bool(getattr(args, "gradient_checkpointing", False)),
        **_adapter(peft_config),
    )


def seed_of(args: Any) -> int:
    """The seed that decides the order of the data."""
    return args.seed if args.data_seed is None else args.data_seed


def _adapter(peft_config: Any) -> dict[str, Any]:
    """Rank and alpha of a LoraConfig; what else it asks for is refused, since it would change what is trained."""
    if peft_config is None:
        return {}
    kind = getattr(getattr(peft_config, "peft_type", None), "value", type(peft_config).__name__)
    if kind != "LORA" or getattr(peft_config, "target_modules", None) not in (None, "all-linear", {"all-linear"}):
        raise UsageError(
            f"expected a peft LoraConfig on all linear layers, got {kind} on {peft_config.target_modules}; give "
            'LoraConfig(r=…, lora_alpha=…, target_modules="all-linear").'
        )
    return {"lora_rank": peft_config.r, "lora_alpha": float(peft_config.lora_alpha)}


def warn_of_the_rest(args: Any, honoured: Collection[str], **others: Any) -> None:
    """Warn, once and by name, of arguments that were given another value than their default and have no effect here.

    Args:
        args: As for `recipe_of`.
        honoured: Names that do have an effect, besides `HONOURED`.
        others: Arguments of the trainer itself that it does nothing with; those that are not None are named.
    """
    # On a machine without a GPU, TRL's configurations cannot be made without being told so.
    usual = type(args)(output_dir=args.output_dir, use_cpu=args.use_cpu)
    known = HONOURED | _HARMLESS | set(honoured)
    names = [
        f.name
        for f in fields(args)
        if f.init and f.name not in known and getattr(args, f.name, None) != getattr(usual, f.name, None)
    ]
    names += [name for name, value in others.items() if value is not None]
    names += [f"report_to={name}" for name in unknown_trackers(args)]
    if names:
        warnings.warn(
            f"these arguments have no effect here: {', '.join(sorted(names))}. Everything else is honoured; see "
            "docs/from_trl.md for what takes their place.",
            UserWarning,
            stacklevel=4,
        )
