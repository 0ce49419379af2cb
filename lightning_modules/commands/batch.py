"""What compress and decompress share: pairing inputs with outputs, progress, and one bad file among many."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightning_modules.codecs.bitstream import BitstreamError
from lightning_modules.commands.errors import CommandError

Job = tuple[Path, Path]


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """--device and --force."""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def choose_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        CommandError: No such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CommandError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return device


def pair(paths: list[str], suffix: str, force: bool) -> list[Job]:
    """Inputs and outputs as cp has them: the last path is the output file, or a folder for one file or many.

    Args:
        paths: Inputs, then one output.
        suffix: Ending of output files in a folder.
        force: Allow outputs that exist.

    Raises:
        CommandError: Too few paths, two inputs with one output, or an output that exists.
    """
    if len(paths) < 2:
        raise CommandError("name at least one input and, last, the output file or folder")
    inputs, last = [Path(p) for p in paths[:-1]], paths[-1]
    folder = Path(last).is_dir() or last.endswith("/") or len(inputs) > 1
    jobs = [(p, Path(last) / f"{p.stem}{suffix}" if folder else Path(last)) for p in inputs]
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if target in taken:
            raise CommandError(f"{taken[target]} and {source} would both be written to {target}")
        if target.exists() and not force:
            raise CommandError(f"{target} exists; replace it with --force, or choose another output")
        if folder and Path(last).exists() and not Path(last).is_dir():
            raise CommandError(f"{last} is a file; several outputs need a folder")
        taken[target] = source
    return jobs


def run_jobs(jobs: list[Job], work: Callable[[Path, Path], str]) -> None:
    """Do all jobs, reporting each by the line that `work` returns.

    Raises:
        CommandError: Some failed; their messages have been printed, and the others are done.
        BitstreamError: The only one failed.
    """
    failures = 0
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=len(jobs) == 1) as progress:
        task = progress.add_task("files", total=len(jobs))
        for source, target in jobs:
            try:
                line = work(source, target)
            except (BitstreamError, CommandError) as error:
                message = str(error) if str(source) in str(error) else f"{source}: {error}"
                if len(jobs) == 1:
                    raise type(error)(message) from error
                failures += 1
                progress.console.print(f"error: {message}", markup=False, soft_wrap=True)
            else:
                print(line, file=sys.stdout, flush=True)
            progress.advance(task)
    if failures:
        raise CommandError(f"{failures} of {len(jobs)} files failed; the others are written")
