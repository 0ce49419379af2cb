"""Reading back, from a training checkpoint alone, the networks that judge pictures: a classifier, a segmenter."""

import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor, nn

from lightning_modules.errors import PretrainedError
from lightning_modules.pretrained import unusable_file
from lightning_modules.run_directory import CONFIG, LAST_CHECKPOINT

_PREFIX = "network."
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError)
"""What torch.load raises at files that are no checkpoints."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class JudgeKind:
    """What checkpoints of a kind of judge hold.

    Args:
        part: What it is called in errors, "digit classifier".
        key: Entry of the checkpoint that describes it: `name`, `sha` and one more.
        detail: The one more, which its network is built from.
        name: Of the only network of this kind.
        made_by: How to come by a checkpoint, for errors.
    """

    part: str
    key: str
    detail: str
    name: str
    made_by: str

    def describe(self, network: nn.Module, detail: Any) -> dict[str, Any]:
        """What a checkpoint says of its network: name, detail, and `sha`, the digest of the weights."""
        return {"name": self.name, self.detail: detail, "sha": weights_digest(network.state_dict())}

    def load(self, path: str | Path, setting: str, build: Callable[[Any], Network]) -> tuple[Network, Any, str]:
        """Rebuild a network from what its checkpoint says of it, on the CPU, in eval mode and without gradients.

        A checkpoint of a training that has not finished gives a warning.

        Args:
            path: A checkpoint that training wrote.
            setting: The configuration setting that `path` came from, named in errors.
            build: Makes the network of a detail; it raises LookupError for one that it does not know.

        Returns:
            The network, its detail, and the SHA-256 of its weights.

        Raises:
            PretrainedError: There is no such file, it cannot be read, or it holds another network.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise PretrainedError(
                f"{self.part}: checkpoint {path} (given by {setting}) does not exist; {self.made_by}."
            )
        try:
            checkpoint: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except _UNREADABLE as error:
            problem = f"it cannot be read as a checkpoint ({type(error).__name__}: {_beginning(error)})"
            raise unusable_file(self.part, path, f"{problem}; {self.made_by}", setting) from error
        told = checkpoint.get(self.key) if isinstance(checkpoint, dict) else None
        expected = {"name", self.detail, "sha"}
        if not isinstance(told, dict) or told.keys() != expected or "state_dict" not in checkpoint:
            raise unusable_file(self.part, path, f"it holds no {self.part}; {self.made_by}", setting)
        if told["name"] != self.name:
            problem = f"it holds a {self.key} {told['name']!r}, where this program knows {self.name!r}"
            raise unusable_file(self.part, path, problem, setting)
        try:
            # Random weights that are replaced; the global state should not shift.
            with torch.random.fork_rng(devices=[]):
                network = build(told[self.detail])
            # A checkpoint also holds what the training's metrics counted.
            items = checkpoint["state_dict"].items()
            network.load_state_dict({k.removeprefix(_PREFIX): v for k, v in items if k.startswith(_PREFIX)})
        except (LookupError, RuntimeError) as error:
            raise unusable_file(self.part, path, f"it is of another network: {_beginning(error)}", setting) from error
        digest = weights_digest(network.state_dict())
        if digest != told["sha"]:
            found, noted = weights_name(digest), weights_name(told["sha"])
            problem = f"its weights are {found} where it notes {noted}; it is damaged"
            raise unusable_file(self.part, path, f"{problem}; {self.made_by}", setting)
        if (progress := _unfinished(file, checkpoint)) is not None:
            warnings.warn(
                f"{self.part}: the training of {path} (given by {setting}) has only come to {progress}; its figures "
                "are not those of the finished network",
                stacklevel=2,
            )
        return network.eval().requires_grad_(False), told[self.detail], digest


def unfinished(path: Path) -> str | None:
    """How far the training of a checkpoint has come, such as "epoch 3 of 45", where that is not its end.

    `last.ckpt` is written after every epoch. What its training's end is says the `config.yaml` beside it: its
    `max_epochs` or `max_steps`.

    Returns:
        None where the training has finished, and where nothing tells: a checkpoint of another name or without such a
        config counts as it is, and of a file that is no checkpoint loading says what is wrong.
    """
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _UNREADABLE:
        return None
    return _unfinished(path, checkpoint)


def _unfinished(path: Path, checkpoint: Any) -> str | None:
    config = path.with_name(CONFIG)
    if path.name != LAST_CHECKPOINT or not config.is_file():
        return None
    try:
        trainer = yaml.safe_load(config.read_text(encoding="utf-8"))["trainer"]
        epochs, steps = trainer["max_epochs"], trainer["max_steps"]
        # As the trainer tells it: one epoch more than `completed` when a checkpoint is written at an epoch's end.
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        taken = checkpoint["global_step"]
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError):
        return None
    ends = [(done, epochs, "epoch"), (taken, steps, "step")]
    limited = [end for end in ends if isinstance(end[1], int) and end[1] > 0]
    # Training stops at the limit that it reaches first.
    if not limited or any(count >= limit for count, limit, _ in limited):
        return None
    count, limit, unit = limited[0]
    return f"{unit} {count} of {limit}"


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in hexadecimal, whatever the order of its entries
    and their device.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_name(digest: str | None) -> str | None:
    """What records call weights of a digest: enough of it to tell any two apart. `None` stands for none loaded."""
    return None if digest is None else f"sha256 {digest[:16]}"


def _beginning(error: Exception) -> str:
    """The beginning, in one line, of a message that may list hundreds of keys."""
    return " ".join(str(error).split())[:200]
