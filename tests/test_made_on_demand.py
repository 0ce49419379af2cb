"""Judges that are trained where they are missing: once, to the end, and by one of several processes."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from callbacks.made_on_demand import make_checkpoint
from lightning_modules.errors import PretrainedError
from lightning_modules.judge_checkpoint import unfinished
from tests.conftest import ROOT

EPOCHS = 3
PYTHON = sys.executable  # before a test puts another program there


def checkpoint_after(epochs: int, path: Path) -> Path:
    """As much of a checkpoint at an epoch's end as tells how far it is."""
    current = {"ready": epochs, "started": epochs, "processed": epochs, "completed": epochs - 1}
    loops = {"fit_loop": {"epoch_progress": {"current": current}}}
    torch.save({"epoch": epochs - 1, "global_step": 20 * epochs, "loops": loops, "state_dict": {}}, path)
    return path


def config_of(folder: Path, max_epochs: Any = EPOCHS, max_steps: Any = -1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"trainer": {"max_epochs": max_epochs, "max_steps": max_steps}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program of the same command line, but without a network, leaves checkpoints after epochs 1 to 3."""
    run = tmp_path / "run"
    config_of(run)
    for epochs in range(1, EPOCHS + 1):
        checkpoint_after(epochs, tmp_path / f"{epochs}.ckpt")
    program = tmp_path / "program"
    program.write_text(
        f"""#!/bin/sh
        echo "$3 rank=$RANK slurm=$SLURM_PROCID" >> {tmp_path}/calls
        for epoch in 1 2 3; do
            cp {tmp_path}/$epoch.ckpt {run}/draft && mv {run}/draft {run}/last.ckpt
            [ "$3" = stops_after_$epoch ] && exit 0
            sleep 0.3
        done
        [ "$3" != fails ]
        """
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return run / "last.ckpt"


def calls(judge: Path) -> list[str]:
    return (judge.parent.parent / "calls").read_text().splitlines()


def test_of_several_that_need_it_one_makes_it_and_all_get_the_finished_one(
    judge: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("SLURM_PROCID", "1")
    found: list[str | None] = []

    def need() -> None:
        make_checkpoint(judge, "fit")
        found.append(unfinished(judge))

    threads = [threading.Thread(target=need) for _ in range(3)]
    for thread in threads[:2]:
        thread.start()
    while not judge.is_file():
        time.sleep(0.01)
    assert unfinished(judge) is not None
    threads[2].start()  # comes when there is the checkpoint of an epoch
    for thread in threads:
        thread.join()
    assert found == [None] * 3
    assert calls(judge) == ["fit rank= slurm="]
    error = capfd.readouterr().err
    assert error.count("trained now, once: fit") == 1
    assert error.count(f"Waiting for another process, which trains {judge}.") == 2


def test_an_interrupted_training_goes_on(judge: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint_after(2, judge)
    make_checkpoint(judge, "fit")
    assert unfinished(judge) is None
    assert "has only come to epoch 2 of 3; its training goes on now: fit" in capfd.readouterr().err
    make_checkpoint(judge, "fit")
    assert len(calls(judge)) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stops_after_2", "has only come to epoch 2 of 3, and the command that should make it ended with code 0"),
        ("fails", "is in doubt, and the command that should make it ended with code 1"),
    ],
)
def test_what_did_not_come_to_its_end_is_refused(judge: Path, command: str, message: str) -> None:
    with pytest.raises(PretrainedError, match=message):
        make_checkpoint(judge, command)


def test_a_training_that_outlives_who_asked_for_it_is_waited_for(judge: Path) -> None:
    code = "from pathlib import Path; from callbacks.made_on_demand import make_checkpoint as make; import sys; "
    code += f"sys.executable = {sys.executable!r}; make(Path({str(judge)!r}), 'fit')"
    with subprocess.Popen([PYTHON, "-c", code], cwd=ROOT) as asking:
        while not judge.is_file():
            assert asking.poll() is None
            time.sleep(0.01)
        asking.kill()
    make_checkpoint(judge, "fit")
    assert unfinished(judge) is None and len(calls(judge)) == 1


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PretrainedError, match=r"last\.ckpt\.lock cannot be written \(.+\): run the command"):
        make_checkpoint(tmp_path / "file" / "last.ckpt", "fit")


@pytest.mark.parametrize(
    ("epochs", "limits", "told"),
    [
        (2, {}, "epoch 2 of 3"),
        (3, {}, None),
        (4, {}, None),
        (2, {"max_steps": 40}, None),
        (2, {"max_steps": 41}, "epoch 2 of 3"),
        (2, {"max_epochs": -1, "max_steps": 41}, "step 40 of 41"),
        (2, {"max_epochs": None}, None),
        (2, {"max_epochs": "${elsewhere}"}, None),
    ],
)
def test_the_config_beside_says_what_the_end_is(
    epochs: int, limits: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    config_of(tmp_path, **limits)
    assert unfinished(checkpoint_after(epochs, tmp_path / "last.ckpt")) == told


def test_what_nothing_is_known_of_counts_as_it_is(tmp_path: Path) -> None:
    config_of(tmp_path / "run")
    for path in (tmp_path / "last.ckpt", tmp_path / "run" / "best.ckpt"):  # without config, and not the run's last
        checkpoint_after(1, path)
    (tmp_path / "run" / "last.ckpt").write_bytes(b"no checkpoint at all")
    for path in (tmp_path / "last.ckpt", tmp_path / "run" / "best.ckpt", tmp_path / "run" / "last.ckpt"):
        assert unfinished(path) is None
        make_checkpoint(path, "no such command")
    checkpoint_after(1, tmp_path / "run" / "last.ckpt")
    for text in ("trainer: [", "trainer:", "- 1"):
        (tmp_path / "run" / "config.yaml").write_text(text)
        assert unfinished(tmp_path / "run" / "last.ckpt") is None
