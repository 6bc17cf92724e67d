"""Judges of two answers, one function each; importing this registers all of them."""

from smidgen.evaluation.judges import chat, human, less_repetitive, longer, matches, reward, rules, shorter

__all__ = ["chat", "human", "less_repetitive", "longer", "matches", "reward", "rules", "shorter"]
