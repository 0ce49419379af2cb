"""Several `sweep`s of the same trials at once: who runs what, who makes the report, and how each ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.reports import make
from lightning_modules.sweeps.locks import Holder, TrialLock, take
from tests.test_sweep import Sweep, plain_environment, send, sweep

__all__ = ["plain_environment", "sweep"]  # fixtures

RECORDING = """
import json, sys, time
from pathlib import Path
flags = dict(zip(sys.argv[2::2], sys.argv[3::2]))
parameters = json.loads(Path(flags["-c"]).read_text())
folder = Path(flags["--run_dir"])
if sys.argv[1] == "fit":
    with (folder / "events").open("a") as events:
        events.write("begin 0\\n")
    time.sleep(parameters["pause"])
    sys.exit(parameters.get("codes", {}).get(folder.name, 0))
(folder / "results").mkdir(exist_ok=True)
(folder / "results" / "images.json").write_text("{}")
"""


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a stand-in for reports: a line when one begins, with its number of trials, and one when it ends."""
    log = tmp_path / "reports"

    def make_report(results: list[Path], *_: object) -> None:
        with log.open("a") as file:
            file.write(f"begin {len(results)}\n")
            file.flush()
            time.sleep(0.3)
            file.write("end\n")

    monkeypatch.setattr(make, "make_report", make_report)
    return log


def write_recording(sweep: Sweep, **parameters: Any) -> None:
    """A sweep whose trials write records."""
    program = sweep.file.parent / "recording.py"
    program.write_text(RECORDING)
    sweep.write(["${interpreter}", str(program), "fit", "-c", "${args_json_file}"], **parameters)
    sweep.run("--dry_run")  # imports what each fork would have to


def test_of_three_sweeps_at_once_the_last_makes_the_report(sweep: Sweep, reports: Path) -> None:
    write_recording(sweep, point=[0, 1, 2], pause=0.4)
    processes = [sweep.in_background("--jobs", "1", told=f"told{i}") for i in range(3)]
    for process in processes:
        process.join(60)
    told = [(sweep.file.parent / f"told{i}").read_text() for i in range(3)]
    assert [process.exitcode for process in processes] == [0, 0, 0], told
    assert [sweep.events(f"point_{i}") for i in range(3)] == [["begin"]] * 3
    assert reports.read_text().split("\n") == ["begin 3", "end", ""], told
    for text in told:
        assert ("3 of 3 trials are done" in text) != ("whoever ends last makes the report" in text)
    sweep.run()
    assert reports.read_text().count("begin 3") == 2, "on demand it is made anew"


def test_two_reports_are_not_made_at_once(sweep: Sweep, reports: Path) -> None:
    write_recording(sweep, point=[0, 1], pause=0.0)
    sweep.run("--report", "none")
    # A process of its own has the lock: forks of this one would have it too.
    program = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    command = [sys.executable, "-c", program, str(sweep.output / ".report")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        processes = [sweep.in_background(told=f"told{i}") for i in range(2)]
        time.sleep(1)
        assert all(process.is_alive() for process in processes)
        assert not reports.exists()
        holder.kill()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert reports.read_text().split("\n") == ["begin 2", "end", ""]
    told = [(sweep.file.parent / f"told{i}").read_text() for i in range(2)]
    assert sum("another process has made the report" in text for text in told) == 1


def test_who_ends_first_leaves_the_rest_to_the_others(
    sweep: Sweep, reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(sweep, pause=[2.0, 0.0])
    slow = sweep.in_background("--jobs", "1")
    sweep.wait_for("begin", "pause_2.0")
    sweep.run()
    assert slow.is_alive()
    assert not reports.exists()
    told = capsys.readouterr().out
    assert "1 of 2 trials are done" in told
    assert "left to another process, which still runs it  pause_2.0" in told
    assert "others are still at work: whoever ends last makes the report" in told
    slow.join(30)
    assert slow.exitcode == 0
    assert "begin 2" in reports.read_text(), "with what the quick one did"


def test_what_another_has_left_behind_is_taken_up(sweep: Sweep) -> None:
    sweep.write(point=[0, 1], steps=30, pause=0.05)
    process = sweep.in_background("--jobs", "1")
    sweep.wait_for("step-1", "point_0")
    other = sweep.in_background("--jobs", "1", told="other")
    sweep.wait_for("step-1", "point_1")
    send(process, signal.SIGINT)
    process.join(30)
    other.join(30)
    assert (process.exitcode, other.exitcode) == (130, 0)
    assert sweep.events("point_0").count("begin") == 2
    assert [e for e in sweep.events("point_0") if e.startswith("step")] == [f"step-{i}" for i in range(1, 31)]
    assert sweep.events("point_0")[-1] == sweep.events("point_1")[-1] == "test"


def test_what_fails_elsewhere_at_the_same_time_is_a_failure_and_not_repeated(
    sweep: Sweep, reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(sweep, pause=[0.5, 1.5], codes={"pause_0.5": 3})
    process = sweep.in_background("--jobs", "1")
    sweep.wait_for("begin", "pause_0.5")
    sweep.run("--jobs", "1", code=1)
    process.join(30)
    assert process.exitcode == 1
    assert sweep.events("pause_0.5") == ["begin"]
    assert "pause_0.5  in another process: failed: fit ended with code 3" in capsys.readouterr().out
    sweep.run(code=1)
    assert sweep.events("pause_0.5") == ["begin", "begin"], "of last time"


def test_a_trial_that_outlives_its_sweep_is_not_run_twice(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.write(point=[0, 1], steps=30, pause=0.05)
    process = sweep.in_background("--jobs", "2")
    sweep.wait_for("step-1", "point_0", "point_1")
    process.kill()
    process.join(30)
    sweep.run(code=1)
    told = capsys.readouterr().out
    assert "still running, but its sweep is gone: when it has ended, the same command continues  point_0" in told
    assert "whoever ends last" not in told, "nobody else will"
    assert "end" not in sweep.events("point_0")
    sweep.wait_for("end", "point_0", "point_1")
    time.sleep(0.5)
    sweep.run()
    for trial in ("point_0", "point_1"):
        assert sweep.events(trial).count("step-30") == 1
        assert sweep.events(trial)[-1] == "test"


def test_a_lock_says_who_holds_it(tmp_path: Path) -> None:
    lock = take(tmp_path)
    assert isinstance(lock, TrialLock)
    assert take(tmp_path) is Holder.SWEEP
    inherited = os.dup(lock.inherited)
    lock.release()
    assert take(tmp_path) is Holder.ORPHAN
    os.close(inherited)
    again = take(tmp_path)
    assert isinstance(again, TrialLock)
    again.release()
