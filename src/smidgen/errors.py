"""The few exceptions a user can meet, each with the exit code and the one word that the command line gives it.

A message has three parts: what was expected, what came, what to do.
"""


class SmidgenError(Exception):
    """A failure that a user can act on; printed without a traceback."""

    exit_code = 1
    kind = "failed"


class UsageError(SmidgenError):
    """A setting, flag or name that cannot be taken as given."""

    exit_code = 2
    kind = "usage"


class InvalidData(SmidgenError):
    """Data that cannot be used: too many bad rows, a leak between training and benchmark, an empty file."""

    exit_code = 3
    kind = "invalid_data"


class NotWritten(InvalidData, ValueError):
    """A file of this project that does not hold what was written; a ValueError for who can do without the file."""
