"""Trainings that are more than a loss on pairs: a module a command, each with one function named as the command."""
