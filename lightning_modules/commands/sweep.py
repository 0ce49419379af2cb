"""`sweep`: a W&B sweep file without a server."""

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_modules.commands.errors import CommandError
from lightning_modules.sweeps.errors import SweepError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli sweep",
        usage="%(prog)s FILE [-h] [settings] [-- flags of every trial]",
        description="Run the grid of a W&B sweep file without a server. Every trial is trained and tested in "
        "OUTPUT/TRIAL, where trial.log holds what it printed. The same command again skips trials that are done and "
        "continues the others from their last checkpoints. Ctrl-C lets running trials save. Exit code 1: some trials "
        "failed.",
        epilog="example: sweep sweeps/digits_rate.yaml --jobs 2 -- --trainer.accelerator cpu",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="W&B sweep file of method grid")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the trials (default: runs/NAME)")
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="trials at a time (default: the number of GPUs, or 1 without)"
    )
    parser.add_argument(
        "--devices",
        type=_devices,
        metavar="GPU,...",
        help="GPUs to use, as CUDA_VISIBLE_DEVICES names them (default: all visible). Each trial gets one; where "
        "jobs are more than GPUs, they share",
    )
    parser.add_argument(
        "--test_config",
        action="append",
        default=[],
        metavar="FILE",
        help="config laid over for testing, such as configs/data/kodak.yaml; several times for several tests",
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="run at most N of the trials that are not done")
    parser.add_argument("--dry_run", action="store_true", help="print the commands, run nothing")
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: A file that is no grid, settings that do not fit, or folders that hold something else.
        SystemExit: With code 1 if trials are not done for another reason than `--limit`, with 130 after Ctrl-C.
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
    output = options.output or Path("runs") / sweep.name
    trials = make_trials(sweep, output, options.test_config, flags)
    to_do = [trial for trial in trials if not trial.is_done()]
    chosen = to_do[: options.limit]
    gpus = _gpus(options.devices)
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

    progress = Progress()
    before = len(trials) - len(to_do)
    progress.say(
        f"{output}: {len(trials)} trials" + (f", {before} of them done before" if before else "") + f"; {len(slots)} "
        f"at a time" + (f" on GPUs {', '.join(gpus)}" if gpus else "")
    )
    summary = Runner(slots, progress).run(chosen)
    progress.say(f"{before + len(summary.done)} of {len(trials)} trials are done")
    for name, reason in summary.failed.items():
        progress.say(f"{name}  {reason}\n    {output / name / 'trial.log'}", "red")
    for name in summary.busy:
        progress.say(f"left to another process  {name}", "yellow")
    if summary.stopped:
        progress.say("interrupted; the same command continues", "yellow")
        raise SystemExit(130)
    if summary.failed or summary.busy:
        raise SystemExit(1)


def _slots(jobs: int, gpus: Sequence[str], sweep: str) -> list[dict[str, str]]:
    """For each trial at a time, what it finds in its environment beside the rest of ours."""
    cores = len(os.sched_getaffinity(0))
    common = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), "WANDB_RUN_GROUP": sweep}
    common = {name: value for name, value in common.items() if name not in os.environ}
    return [{**common, **({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})} for slot in range(jobs)]


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
            f"--devices {','.join(chosen)}: {', '.join(missing)} is not among the visible GPUs "
            f"({', '.join(visible) or 'none'})"
        )
    return list(chosen)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _devices(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different GPUs, such as 0,1")
    return names
