"""What goes wrong around trials: files that cannot be written, tests without a record, processes that are ended."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.sweep import main
from lightning_modules.sweeps import records
from lightning_modules.sweeps.runner import Runner
from lightning_modules.sweeps.trials import Trial
from tests.test_sweep import Sweep, plain_environment, sweep

__all__ = ["plain_environment", "sweep"]  # fixtures

PROGRAM = """
import os, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--run_dir") + 1])
with (folder / "events").open("a") as events:
    events.write(sys.argv[1] + "\\n")
exec((folder.parent.parent / f"{sys.argv[1]}.py").read_text())
"""


class Written(Sweep):
    """A sweep over a program that does what `does` says at each stage."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        program = folder / "written.py"
        program.write_text(PROGRAM)
        self.command = ["${interpreter}", str(program), "fit", "-c", "${args_json_file}"]
        self.does()

    def does(self, fit: str = "", test: str = "") -> None:
        for stage, text in (("fit", fit), ("test", test)):
            self.file.with_name(f"{stage}.py").write_text(text)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_a_full_disk_at_one_trial_stops_no_other(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write(point=[0, 1, 2, 3], steps=10, pause=0.05)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    launch, mark_done = Runner._launch, Trial.mark_done

    def launch_or_not(runner: Runner, trial: Trial, stage: int, *rest: Any) -> Any:
        if (trial.name, stage) == ("point_0", 1):
            raise full
        return launch(runner, trial, stage, *rest)

    def mark_done_or_not(trial: Trial, seconds: float) -> None:
        if trial.name == "point_1":
            raise full
        mark_done(trial, seconds)

    monkeypatch.setattr(Runner, "_launch", launch_or_not)
    monkeypatch.setattr(Trial, "mark_done", mark_done_or_not)
    sweep.output.mkdir()
    (sweep.output / "point_2").write_text("a file where the trial's folder is to be")
    with pytest.raises(CommandError, match="point_2"):
        main(sweep.args())
    (sweep.output / "point_2").unlink()
    (sweep.output / "point_2").mkdir()
    (sweep.output / "point_2" / ".lock").mkdir()
    sweep.run("--jobs", "4", code=1)
    told = capsys.readouterr().out
    assert "1 of 4 trials are done" in told
    assert "point_0  failed: test could not be started: [Errno 28] No space left on device" in told
    assert "point_1  failed: it ended well, but that could not be noted: [Errno 28]" in told
    assert "point_2  could not be started: [Errno 21] Is a directory" in told
    assert sweep.events("point_3")[-1] == "test"
    monkeypatch.undo()
    monkeypatch.chdir(sweep.file.parent)
    (sweep.output / "point_2" / ".lock").rmdir()
    sweep.run()
    assert sweep.events("point_0").count("step-10") == 1, "trained once"


@pytest.mark.parametrize("output", ["/proc/none", "/dev/null/none"])
def test_a_folder_that_cannot_be_written_is_one_line(
    output: str, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write(point=[0, 1])
    with pytest.raises(CommandError) as error:
        main([str(sweep.file), "-o", output])
    assert output in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_a_file_system_without_locks_is_named(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    sweep.write(point=[0, 1])
    monkeypatch.setattr("lightning_modules.sweeps.locks.fcntl.flock", flock)
    with pytest.raises(CommandError, match=r"out: trials cannot be written and locked there \(No locks available\)"):
        main(sweep.args())


@pytest.mark.parametrize("how", ["sys.exit(143)", "sys.exit(130)", "os.kill(os.getpid(), 15)"])
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_trial_whose_process_was_ended_is_continued_next_time(
    stage: str, how: str, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    written.write(written.command, point=[0, 1])
    written.does(**{stage: f"if folder.name == 'point_0': {how}"})
    written.run(code=1)
    told = capsys.readouterr().out
    assert f"point_0  interrupted: {stage} " in told
    assert "1 of 2 trials are done" in told
    assert "interrupted; the same command continues  point_0" in told
    assert "failed" not in told
    written.does()
    written.run()
    assert written.events("point_0") == (["fit"] if stage == "fit" else ["fit", "test"]) + ["fit", "test"]


def test_a_test_without_the_record_it_should_write_is_a_failure(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    written.write(written.command, point=[0, 1])
    overlay = written.file.with_name("data.yaml")
    overlay.write_text("data: {name: kodak}")
    flags = ["--test_config", str(overlay), "--report", "none"]
    config = yaml.safe_dump({"trainer": {"callbacks": [{"class_path": "callbacks.ResultRecord"}]}})
    fit = f"(folder / 'config.yaml').write_text({config!r})"
    record = "(folder / 'results').mkdir(exist_ok=True); (folder / 'results' / 'kodak.json').write_text('{}')"
    written.does(fit, f"if folder.name == 'point_1': {record}")
    written.run(*flags, code=1)
    told = capsys.readouterr().out
    assert "point_0  failed: test has written no result record" in told
    assert "1 of 2 trials are done" in told
    assert not (written.output / "point_0" / "done.json").exists()
    written.does(fit, record)
    written.run(*flags)


def test_when_a_record_is_expected(tmp_path: Path) -> None:
    config, overlay = tmp_path / "config.yaml", tmp_path / "overlay.yaml"
    assert not records.expected(tmp_path, None), "another program's run"
    callbacks = [{"class_path": "callbacks.Bpp"}, {"class_path": "callbacks.ResultRecord"}]
    for trainer, expected in (
        ({"callbacks": callbacks}, True),
        ({"callbacks": callbacks[1]}, True),
        ({"callbacks": callbacks[:1]}, False),
        ({"callbacks": None}, False),
        ({"callbacks": callbacks, "fast_dev_run": True}, False),
        ({"callbacks": callbacks, "limit_test_batches": 0}, False),
    ):
        config.write_text(yaml.safe_dump({"trainer": trainer}))
        assert records.expected(tmp_path, None) == expected, trainer
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    for text, expected in (
        ("data: {}", True),
        ("trainer: {callbacks+: [{class_path: callbacks.Fid}]}", True),
        ("trainer: {callbacks: [{class_path: callbacks.Fid}]}", False),
        ("trainer: {limit_test_batches: 0}", False),
    ):
        overlay.write_text(text)
        assert records.expected(tmp_path, overlay) == expected, text


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_a_mistyped_test_config_is_found_before_anything_starts(
    flags: list[str], sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write(point=[0, 1])
    there, missing = tmp_path / "there.yaml", tmp_path / "kodak.yml"
    there.write_text("{}")
    for path, told in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(CommandError) as error:
            main(sweep.args("--test_config", str(there), "--test_config", str(path), *flags))
        assert str(error.value) == f"--test_config {path}: {told}: correct the path"
    assert not sweep.output.exists()
    assert capsys.readouterr().out == ""
