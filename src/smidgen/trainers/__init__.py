"""Trainers under TRL's names, so that moving a script over is a change of import.

They are functions, called as TRL's classes are, and return one kind of `Trainer`; the training is the project's own.
"""

from smidgen.trainers.configs import CPOConfig, DPOConfig, KTOConfig, ORPOConfig, RewardConfig, SFTConfig
from smidgen.trainers.kto import KTOTrainer
from smidgen.trainers.preference import CPOTrainer, DPOTrainer, ORPOTrainer
from smidgen.trainers.reward import RewardTrainer
from smidgen.trainers.sft import SFTTrainer
from smidgen.trainers.trainer import Trainer

__all__ = [
    "CPOConfig",
    "CPOTrainer",
    "DPOConfig",
    "DPOTrainer",
    "KTOConfig",
    "KTOTrainer",
    "ORPOConfig",
    "ORPOTrainer",
    "RewardConfig",
    "RewardTrainer",
    "SFTConfig",
    "SFTTrainer",
    "Trainer",
]
