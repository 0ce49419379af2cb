"""The Inception-v3 of FID."""

import pickle
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchmetrics.image.fid import NoTrainInceptionV3

from callbacks.extractors.base import FeatureExtractor
from lightning_modules.pretrained import download_failed, unusable_file

Resize = Literal["bilinear_antialias", "tf1_bilinear"]

FILE_NAME = Path(URL_INCEPTION_V3).name
PART = "Inception-v3 of FID"
SETTING = "callbacks.extractors.Inception.init_args.weights_path"


class Inception(FeatureExtractor):
    """Pool3 features (2048) of TensorFlow's Inception-v3 of 2015-12-05, the network of FID (Heusel et al., 2017).

    The port is torch-fidelity's "inception-v3-compat". Images are resized to 299 x 299 in 8-bit values and brought to
    (x - 128) / 128.

    Args:
        weights_path: file with torch-fidelity's state dict. By default torch.hub's cache is searched for
            weights-inception-2015-12-05-6726825d.pth, and it is downloaded where it is not there.
        resize: "bilinear_antialias" is torch's, torchmetrics' default, with which Muckley et al. (2023) and the TACO
            paper computed FID. "tf1_bilinear" is that of TensorFlow 1 and torch-fidelity, without antialiasing;
            its figures are not comparable, and have names of their own.
    """

    def __init__(self, weights_path: str | None = None, resize: Resize = "bilinear_antialias") -> None:
        super().__init__()
        if resize not in ("bilinear_antialias", "tf1_bilinear"):
            raise ValueError(f"resize must be bilinear_antialias or tf1_bilinear, not {resize!r}")
        self.weights_path = weights_path
        self.resize = resize
        self.name = "inception" if resize == "bilinear_antialias" else "inception_tf1"

    @property
    def weights(self) -> str | None:
        """The file, if one was given."""
        return self.weights_path

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        resize = {
            "bilinear_antialias": "torch bilinear with antialiasing, align_corners false, to 299x299",
            "tf1_bilinear": "TensorFlow 1 bilinear without antialiasing, to 299x299",
        }[self.resize]
        return {
            "extractor": "inception-v3-compat of torch-fidelity",
            "weights": FILE_NAME if self.weights_path is None else Path(self.weights_path).name,
            "layer": "pool3 (2048)",
            "images": "8-bit RGB",
            "resize": resize,
            "preprocessing": "(x - 128) / 128 of 8-bit values",
            "dtype": "float32",
        }

    def load(self) -> nn.Module:
        """Build the network; see the class for where its weights come from."""
        path = _default_file() if self.weights_path is None else Path(self.weights_path).expanduser()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise unusable_file(PART, path, f"{type(error).__name__}: {_beginning(error)}", SETTING) from error
        if not isinstance(state, Mapping):
            raise unusable_file(PART, path, "it holds no state dict", SETTING)
        try:
            # The class draws random weights that it then replaces; the global random state should not shift.
            with torch.random.fork_rng(devices=[]):
                return NoTrainInceptionV3(
                    "inception-v3-compat", ["2048"], str(path), antialias=self.resize == "bilinear_antialias"
                )
        except RuntimeError as error:
            raise unusable_file(PART, path, f"it is of another network: {_beginning(error)}", SETTING) from error

    def extract(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (B, 2048)."""
        return network(images.mul(255).round().to(torch.uint8))


def _default_file() -> Path:
    """The file in torch.hub's cache, downloaded if need be."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE_NAME
    if not path.is_file():
        try:
            with redirect_stdout(sys.stderr):  # progress is no output of a command
                torch.hub.load_state_dict_from_url(URL_INCEPTION_V3, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:  # URLError is an OSError
            raise download_failed(PART, FILE_NAME, SETTING, error) from error
    return path


def _beginning(error: Exception) -> str:
    """The beginning of a message that may list hundreds of keys."""
    return " ".join(str(error).split())[:200]
