"""What loading says of checkpoints that hold no judge of pictures: no classifier of digits, no street segmenter."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.errors import PretrainedError

Load = Callable[[Path, str], Any]


def problem(load: Load, path: Path, content: object = None) -> str:
    """What `load` says of a file with this content; `None` leaves the file as it is, or away."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(PretrainedError) as error:
        load(path, "some.setting")
    message = str(error.value)
    assert str(path) in message
    assert "given by some.setting" in message
    assert "\n" not in message
    return message


def check_problems_of_files(
    load: Load, checkpoint: Path, folder: Path, part: str, config: str, bias: str, foreign: Iterable[object]
) -> None:
    """See to it that files which are no such checkpoint are told apart, with what makes one.

    Args:
        load: Takes a file and the setting that it came from.
        checkpoint: A good one.
        folder: For bad ones.
        part: What the network is called.
        config: What trains it.
        bias: One of its parameters.
        foreign: What other checkpoints hold.
    """
    make = f"`fit -c {config}` makes one"
    whole = torch.load(checkpoint, weights_only=True)
    missing = problem(load, folder / "missing.ckpt")
    assert "does not exist" in missing and make in missing
    for content in (checkpoint.read_bytes()[:100_000], b"no checkpoint at all"):
        unreadable = problem(load, folder / "unreadable.ckpt", content)
        assert "cannot be read as a checkpoint" in unreadable and make in unreadable
    for content in foreign:
        other = problem(load, folder / "foreign.ckpt", content)
        assert f"it holds no {part}" in other and make in other
    state = whole["state_dict"]
    fewer = {key: value for key, value in state.items() if key != bias}
    assert "it is of another network" in problem(load, folder / "fewer.ckpt", {**whole, "state_dict": fewer})
    bent = {**state, bias: state[bias] + 1e-3}
    assert "it is damaged" in problem(load, folder / "bent.ckpt", {**whole, "state_dict": bent})
