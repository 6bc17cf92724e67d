"""Configurations with TRL's fields and defaults; transformers' TrainingArguments are all there too."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class DPOConfig(TrainingArguments):
    """TRL's fields and defaults; transformers' TrainingArguments are all there too.

    Attributes:
        loss_type: Names as TRL gives them, or the project's own with settings (`"simpo:gamma=0.8"`); several are
            summed.
        loss_weights: One for each; 1 where None.
        max_length: Longest prompt and answer in tokens. Longer pairs are left out and counted, never cut.
    """

    learning_rate: float = 1e-6
    gradient_checkpointing: bool | None = True
    bf16: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    beta: float = 0.1
    loss_type: list[str] | str = field(default_factory=lambda: ["sigmoid"])
    loss_weights: list[float] | None = None
    label_smoothing: float = 0.0
    discopop_tau: float = 0.05
    max_length: int | None = 1024
    disable_dropout: bool = True
    precompute_ref_log_probs: bool = True


@dataclass
class ORPOConfig(TrainingArguments):
    """As TRL's: `beta` is the weight λ of the odds-ratio term."""

    learning_rate: float = 1e-6
    gradient_checkpointing: bool | None = True
    bf16: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    beta: float = 0.1
    max_length: int | None = 1024
    disable_dropout: bool = True


@dataclass
class CPOConfig(TrainingArguments):
    """As TRL's: `loss_type` is "sigmoid" (CPO) or "simpo"; `cpo_alpha` weighs the likelihood of the chosen answers."""

    learning_rate: float = 1e-6
    gradient_checkpointing: bool | None = True
    bf16: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    beta: float = 0.1
    loss_type: str = "sigmoid"
    cpo_alpha: float = 1.0
    simpo_gamma: float = 0.5
    max_length: int | None = 1024
    disable_dropout: bool = True
