"""`sweep`: a W&B sweep file without a server."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.reporting import report_errors
from lightning_modules.sweeps.errors import SweepError

if TYPE_CHECKING:
    from lightning_modules.sweeps.progress import Progress
    from lightning_modules.sweeps.trials import Trial

REPORT_NOTE = ".report"
"""File among the trials on who has made which report last; locked while it is made."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli sweep",
        usage="%(prog)s FILE [-h] [settings] [-- flags of every trial]",
        description="Run the grid of a W&B sweep file without a server. Every trial is trained and tested in "
        "OUTPUT/TRIAL, where trial.log holds what it printed, and a report is made of all that are done. The same "
        "command again skips trials that are done and continues the others from their last checkpoints. Ctrl-C lets "
        "running trials save. Of several such commands at once each runs what no other does, and the last makes the "
        "report. Exit code 1: some trials failed or were killed. W&B logs offline unless WANDB_MODE is set.",
        epilog="example: sweep sweeps/digits_rate.yaml --jobs 2 -- --trainer.accelerator cpu",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="W&B sweep file of method grid")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the trials (default: runs/NAME)")
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="trials at a time (default: as many as there are GPUs for, or 1)"
    )
    parser.add_argument(
        "--gpus",
        type=_gpu_names,
        metavar="GPU,...",
        help="GPUs to use, as CUDA_VISIBLE_DEVICES names them (default: all visible). Each trial gets one; where "
        "jobs are more than GPUs, they share",
    )
    parser.add_argument(
        "--gpus_per_trial",
        type=_count,
        default=1,
        metavar="N",
        help="GPUs of each trial, for files or flags that train with several, as configs/trainer/ddp.yaml",
    )
    parser.add_argument(
        "--test_config",
        action="append",
        default=[],
        metavar="FILE",
        help="config laid over for testing, such as configs/data/kodak.yaml; several times for several tests",
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="run at most N of the trials that are not done")
    parser.add_argument(
        "--report", metavar="DIR|none", help="folder of the report of all trials (default: OUTPUT/report)"
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="take over runs in OUTPUT/TRIAL that agents of W&B have trained; only when the agents have ended",
    )
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="print the commands, run nothing")
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: A file that is no grid, settings that do not fit, folders that hold something else, or results
            that make no report.
        SystemExit: With code 130 after Ctrl-C; with code 1 if trials are not done for another reason than `--limit`,
            or that another sweep is still at work on them.
    """
    end = args.index("--") if "--" in args else len(args)
    options = _parser().parse_args(args[:end])
    try:
        _sweep(options, flags=args[end + 1 :])
    except SweepError as error:
        raise CommandError(str(error)) from error


def _sweep(options: argparse.Namespace, flags: Sequence[str]) -> None:
    from lightning_modules.sweeps.sweep_file import read_sweep
    from lightning_modules.sweeps.trials import make_trials

    sweep = read_sweep(options.file)
    for config in options.test_config:
        _check_readable(config)
    output = options.output or Path("runs") / sweep.name
    trials = make_trials(sweep, output, options.test_config, flags)
    to_do = [trial for trial in trials if not trial.is_done(options.adopt)]
    chosen = to_do[: options.limit]
    gpus = _grouped(_gpus(options.gpus), options.gpus_per_trial)
    slots = _slots(options.jobs or max(1, len(gpus)), gpus, sweep.name)
    if options.dry_run:
        for number, trial in enumerate(chosen):
            # Which slot a trial gets depends on which is free; this is the order in which they start.
            variables = [f"{name}={shlex.quote(value)}" for name, value in slots[number % len(slots)].items()]
            print(f"# {trial.parameters_file}: {json.dumps(trial.parameters)}")
            for command in trial.commands:
                print(" ".join([*variables, shlex.join(command)]))
        return
    # Drawing tables takes a moment to import, which the other verbs need not wait for.
    from lightning_modules.sweeps.progress import Progress
    from lightning_modules.sweeps.runner import Runner

    if chosen:
        _check_writable(output)
    progress = Progress()
    before = len(trials) - len(to_do)
    earlier_report = _report_note(output)
    progress.say(
        f"{output}: {len(trials)} trials" + (f", {before} of them done before" if before else "") + f"; {len(slots)} "
        f"at a time" + (f" on GPUs {' and '.join(gpus)}" if gpus else "")
    )
    summary = Runner(slots, progress, options.adopt).run(chosen)
    # Beyond --limit, others may have been at work.
    others = [trial.name for trial in to_do if trial not in chosen and _is_done(trial, options.adopt)]
    done = [t for t in trials if t not in to_do or t.name in summary.done or t.name in others]
    progress.say(f"{len(done)} of {len(trials)} trials are done")
    for name, reason in summary.failed.items():
        progress.say(f"{name}  {reason}\n    {output / name / 'trial.log'}", "red")
    for name in summary.interrupted:
        progress.say(f"interrupted; the same command continues  {name}", "yellow")
    for name in summary.busy:
        progress.say(f"left to another process, which still runs it  {name}", "yellow")
    for name in summary.orphaned:
        progress.say(
            f"still running, but its sweep is gone: when it has ended, the same command continues  {name}", "red"
        )
    if summary.stopped:
        progress.say("interrupted; the same command continues", "yellow")
        raise SystemExit(130)
    if summary.busy:
        last = "" if options.report == "none" else ": whoever ends last makes the report"
        progress.say(f"others are still at work{last}", "yellow")
    elif not summary.orphaned and options.report != "none":
        report = output / "report" if options.report is None else Path(options.report)
        _report(done, report, f"Sweep {sweep.name}", progress, output / REPORT_NOTE, earlier_report)
    if summary.failed or summary.interrupted or summary.orphaned:
        raise SystemExit(1)


def _check_readable(test_config: str) -> None:
    """Find a mistyped file before hours of training."""
    try:
        Path(test_config).read_bytes()
    except OSError as error:
        raise CommandError(f"--test_config {test_config}: {error.strerror}: correct the path") from error


def _check_writable(output: Path) -> None:
    """Find in one line what every trial would fail of."""
    from lightning_modules.sweeps.locks import check

    try:
        check(output)
    except OSError as error:
        raise CommandError(
            f"{output}: trials cannot be written and locked there ({error.strerror}): choose another --output"
        ) from error


def _is_done(trial: Trial, adopt: bool) -> bool:
    try:
        return trial.is_done(adopt)
    except SweepError:
        return False


def _report_note(output: Path) -> str:
    try:
        return (output / REPORT_NOTE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _report(
    trials: Sequence[Trial], output: Path, title: str, progress: Progress, note: Path, earlier_note: str
) -> None:
    """Make the report of trials that are done, unless another process has done so since ours began.

    There is none without result records.
    """
    from lightning_modules.reports.make import make_report
    from lightning_modules.reports.writer import Options
    from lightning_modules.sweeps.locks import alone

    results = [t.folder / "results" for t in trials if any((t.folder / "results").glob("*.json"))]
    if not results:
        progress.say(f"no report: no trial has written a result record ({title})", "yellow")
        return
    made = json.dumps({"report": str(output), "trials": [trial.name for trial in trials]}) + "\n"
    try:
        with report_errors(output), alone(note) as file:
            text = file.read()
            if text != earlier_note and text.startswith(made):
                progress.say(f"{output}: another process has made the report")
                return
            make_report(results, output, Options(title=title))
            file.truncate(0)
            file.write(made + datetime.now(UTC).isoformat() + "\n")
    except CommandError as error:
        raise CommandError(f"there is no report of the trials that are done: {error} (or --report none)") from error


def _slots(jobs: int, gpus: Sequence[str], sweep: str) -> list[dict[str, str]]:
    """For each trial at a time, what it finds in its environment beside the rest of ours."""
    cores = len(os.sched_getaffinity(0))
    common = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), "WANDB_RUN_GROUP": sweep, "WANDB_MODE": "offline"}
    common = {name: value for name, value in common.items() if name not in os.environ}
    return [{**common, **({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})} for slot in range(jobs)]


def _grouped(gpus: Sequence[str], size: int) -> list[str]:
    """GPUs in groups for trials, as values of CUDA_VISIBLE_DEVICES; what is left over is not used."""
    if size > 1 and len(gpus) < size:
        raise CommandError(f"--gpus_per_trial {size}: there are {len(gpus)} GPUs to use: lower it, or correct --gpus")
    return [",".join(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


def _gpus(chosen: Sequence[str] | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs to use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        visible = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
        visible = [name for name in visible if name not in ("", "-1")]
    else:
        import torch

        visible = [str(index) for index in range(torch.cuda.device_count())]
    if chosen is None:
        return visible
    if missing := [name for name in chosen if name not in visible]:
        raise CommandError(
            f"--gpus {','.join(chosen)}: {', '.join(missing)} is not among the visible GPUs "
            f"({', '.join(visible) or 'none'})"
        )
    return list(chosen)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _gpu_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different GPUs, such as 0,1")
    return names
