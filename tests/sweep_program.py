"""A program that the tests of `sweep` run as a trial: it trains by counting, saves, resumes, and fails on demand.

It is a program of its own, so that a test takes no longer than its processes: `python sweep_program.py fit|test -c
parameters.json --run_dir DIR [--if_exists resume] [flags]`. Parameters: `steps`, `pause` (seconds per step), `fault`
(what goes wrong at the second step: none, code, killed or deaf).
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def flag(name: str) -> str:
    """The last value, as the command line takes it."""
    return next(value for word, value in zip(sys.argv[-2::-1], sys.argv[:0:-1], strict=True) if word == name)


def note(folder: Path, event: str) -> None:
    """Append to what has happened, with the time."""
    with (folder / "events").open("a") as events:
        events.write(f"{event} {time.monotonic()}\n")


def train(folder: Path, steps: int, pause: float, fault: str) -> None:
    last = folder / "last.ckpt"
    done = int(last.read_text()) if last.exists() and flag("--if_exists") == "resume" else 0
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(1) if fault != "deaf" else None)
    note(folder, "begin")
    for step in range(done + 1, steps + 1):
        time.sleep(pause)
        note(folder, f"step-{step}")
        last.write_text(str(step))
        if interrupted:
            sys.exit(1)
        if step == 2 and not (folder.parent / "repaired").exists():
            if fault == "code":
                print("\x1b[31mLossError: step 2 is not finite\x1b[0m")
                print("wandb: Find logs at: somewhere")
                sys.exit(3)
            if fault == "killed":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                (folder / "child").write_text(str(child.pid))
                os.kill(os.getpid(), signal.SIGKILL)
    note(folder, "end")


def main() -> None:
    stage, folder = sys.argv[1], Path(flag("--run_dir"))
    parameters = json.loads(Path(flag("-c")).read_text())
    with (folder / "calls.jsonl").open("a") as calls:
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WANDB_RUN_GROUP", "WANDB_MODE")
        call = {"argv": sys.argv[1:], "environment": {name: os.environ.get(name) for name in names}}
        calls.write(json.dumps({**call, "parameters": parameters}) + "\n")
    if stage == "fit":
        steps, pause = parameters.get("steps", 2), parameters.get("pause", 0.0)
        train(folder, steps, pause, parameters.get("fault", "none"))
    else:
        note(folder, "test")


if __name__ == "__main__":
    main()
