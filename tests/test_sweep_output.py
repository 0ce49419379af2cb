"""A sweep whose output is lost, as when a terminal is closed: its trials save all the same."""

import contextlib
import errno
import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from lightning_modules.commands.sweep import main
from lightning_modules.sweeps.progress import Progress, Row
from tests.conftest import ROOT
from tests.test_sweep import Sweep, plain_environment, sweep

__all__ = ["plain_environment", "sweep"]  # fixtures


def stopped_well(sweep: Sweep) -> None:
    """Both trials have ended a step and saved, as they do when they are asked to."""
    for trial in ("point_0", "point_1"):
        assert sweep.events(trial)[-1] == "saved", sweep.events(trial)


SAVING = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--run_dir") + 1])
interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
def note(event):
    with (folder / "events").open("a") as events:
        events.write(event + " 0\\n")
note("begin")
for _ in range(300):
    time.sleep(0.1)
    if interrupted:
        time.sleep(0.5)
        note("saved")
        sys.exit(1)
"""


@pytest.fixture
def saving(sweep: Sweep) -> Sweep:
    """Two trials that need half a second to save."""
    program = sweep.file.parent / "saving.py"
    program.write_text(SAVING)
    sweep.write(["${interpreter}", str(program), "fit", "-c", "${args_json_file}"], point=[0, 1])
    sweep.run("--dry_run")  # imports what each fork would have to
    return sweep


def test_trials_save_when_the_terminal_is_closed(saving: Sweep) -> None:
    process, terminal = pty.fork()
    if process == 0:
        code = 0
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where nohup runs the tests, and then on purpose
        try:
            sys.stdout = os.fdopen(1, "w")
            main(saving.args("--jobs", "2"))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        finally:
            os._exit(code)
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + 60
    while not all((saving.output / trial / "events").exists() for trial in ("point_0", "point_1")):
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 65536)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    stopped_well(saving)


def test_trials_save_when_ctrl_c_ends_what_reads_the_output(saving: Sweep) -> None:
    errors = saving.file.parent / "errors"
    command = [sys.executable, "-m", "lightning_modules.cli", "sweep", *saving.args("--jobs", "2")]
    with (
        errors.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, cwd=ROOT, preexec_fn=allow_ctrl_c) as process,
    ):
        saving.wait_for("begin", "point_0", "point_1")
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    stopped_well(saving)
    assert errors.read_text() == ""


def allow_ctrl_c() -> None:
    """Where the tests run in a script's background, the signal is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Lost(io.StringIO):
    """A terminal that is closed after the first lines."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error, self.closed_ = error, False

    def write(self, text: str) -> int:
        if self.closed_:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "Input/output error")], ids=["pipe", "tty"])
def test_every_output_survives_its_loss(error: OSError, tmp_path: Path) -> None:
    rows = [Row("bits_4", "fit", 83, tmp_path / "none")]
    for lost_at in range(4):
        screen = Lost(error)
        progress = Progress(Console(file=screen, force_terminal=True), refresh_seconds=0)
        standard = sys.stdout
        screen.closed_ = lost_at == 0
        with progress:
            progress.say("started")
            screen.closed_ |= lost_at == 1
            progress.show(rows, "1 running")
            screen.closed_ |= lost_at == 2
            progress.say("done")
            screen.closed_ |= lost_at == 3
        assert sys.stdout is standard
        progress.say("1 of 1 trials are done")
        assert ("started" in screen.getvalue()) == (lost_at > 0)
