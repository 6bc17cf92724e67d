"""Configurations with TRL's fields and defaults; transformers' TrainingArguments are all there too."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class _Shared(TrainingArguments):
    """What every configuration of TRL's has another default for than transformers."""

    learning_rate: float = 1e-6
    logging_steps: float = 10
    gradient_checkpointing: bool | None = True
    bf16: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


@dataclass
class DPOConfig(_Shared):
    """Of `DPOTrainer`.

    Attributes:
        loss_type: Names as TRL gives them, or the project's own with settings (`"simpo:gamma=0.8"`); several are
            summed.
        loss_weights: One for each; 1 where None.
        max_length: Longest prompt and answer in tokens. Longer pairs are left out and counted, never cut.
    """

    beta: float = 0.1
    loss_type: list[str] | str = field(default_factory=lambda: ["sigmoid"])
    loss_weights: list[float] | None = None
    label_smoothing: float = 0.0
    discopop_tau: float = 0.05
    max_length: int | None = 1024
    disable_dropout: bool = True
    precompute_ref_log_probs: bool = True


@dataclass
class ORPOConfig(_Shared):
    """Of `ORPOTrainer`: `beta` is the weight λ of the odds-ratio term."""

    beta: float = 0.1
    max_length: int | None = 1024
    disable_dropout: bool = True


@dataclass
class CPOConfig(_Shared):
    """Of `CPOTrainer`: `loss_type` is "sigmoid" (CPO) or "simpo"; `cpo_alpha` weighs the chosen answers' likelihood."""

    beta: float = 0.1
    loss_type: str = "sigmoid"
    cpo_alpha: float = 1.0
    simpo_gamma: float = 0.5
    max_length: int | None = 1024
    disable_dropout: bool = True


@dataclass
class SFTConfig(_Shared):
    """Of `SFTTrainer`.

    Attributes:
        dataset_text_field: The column of running text.
        completion_only_loss: Learn the completion and not the prompt; None for so where rows have both.
        max_length: Longest example in tokens. Longer ones are left out and counted, never cut.
    """

    learning_rate: float = 2e-5
    dataset_text_field: str = "text"
    completion_only_loss: bool | None = None
    max_length: int | None = 1024


@dataclass
class RewardConfig(_Shared):
    """Of `RewardTrainer`.

    Attributes:
        center_rewards_coefficient: Pull of the rewards to a mean of 0; None for none.
        max_length: Longest conversation in tokens. Pairs with a longer one are left out and counted.
    """

    learning_rate: float = 1e-4
    center_rewards_coefficient: float | None = None
    max_length: int | None = 1024
    disable_dropout: bool = True


@dataclass
class KTOConfig(_Shared):
    """Of `KTOTrainer`.

    Attributes:
        loss_type: "kto" or "apo_zero_unpaired".
        desirable_weight: What a good answer counts.
        undesirable_weight: What a bad answer counts.
        max_length: Longest prompt and answer in tokens. Longer ones are left out and counted, never cut.
    """

    loss_type: str = "kto"
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    max_length: int | None = 1024
    disable_dropout: bool = True
    precompute_ref_log_probs: bool = True
