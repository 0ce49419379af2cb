"""Reading back, from a training checkpoint alone, the networks that judge pictures: a classifier, a segmenter."""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_modules.errors import PretrainedError
from lightning_modules.pretrained import unusable_file

_PREFIX = "network."

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
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
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
        return network.eval().requires_grad_(False), told[self.detail], digest


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
