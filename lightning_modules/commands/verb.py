"""A verb of the command line."""

from collections.abc import Callable
from typing import NamedTuple


class Verb(NamedTuple):
    """What the command line knows of a verb."""

    summary: str
    run: Callable[[list[str]], None]
    """Takes the arguments after the verb; raises SystemExit or one of the errors that `cli.main` prints."""
