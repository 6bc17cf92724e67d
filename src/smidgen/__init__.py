"""Smidgen: the smallest set of preference pairs that aligns a language model as well as all of them do."""

__version__ = "0.1.0"
