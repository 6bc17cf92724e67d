"""The command line: one thin command a stage; imports everything, imported by nothing."""

from smidgen.cli.app import main

__all__ = ["main"]
