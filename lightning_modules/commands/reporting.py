"""What verbs that make reports from result records have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_modules.commands.errors import CommandError
from lightning_modules.reports.errors import ReportError

if TYPE_CHECKING:
    from lightning_modules.reports.reproduction import Reproduction


@contextmanager
def report_errors(output: Path) -> Iterator[None]:
    """Turns what goes wrong in making a report in `output` into errors of a verb.

    Raises:
        CommandError: In place of a `ReportError` or an `OSError`.
    """
    try:
        yield
    except ReportError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{output}: cannot be written ({error})") from error


def run_reproduction(
    args: list[str],
    *,
    verb: str,
    description: str,
    example: str,
    kept: str,
    load: Callable[[], Reproduction[Any, Any]],
) -> None:
    """Run a verb that makes a reproduction report.

    Args:
        args: The arguments after the verb.
        verb: Its name.
        description: What it makes.
        example: A command line, from the verb on.
        kept: What --keep_records copies to records/ of the report.
        load: Imports the report; drawing and what it imports take seconds to load, which the other verbs need not
            wait for.

    Raises:
        CommandError: There is no record of the report's codec, records cannot be read or do not fit together, or the
            output folder holds something else.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m lightning_modules.cli {verb}", description=description, epilog=f"example: {example}"
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="result records, or folders that hold them"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the report")
    parser.add_argument("--keep_records", action="store_true", help=f"copy {kept} to records/ of the report")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds other files too")
    options = parser.parse_args(args)
    report = load()
    with report_errors(options.output):
        report.make(options.results, options.output, options.force, options.keep_records)
