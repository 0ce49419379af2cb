"""Learned perceptual distances of single images through `piq`: DISTS and PieAPP."""

from pathlib import Path
from typing import Any

import piq
import torch

from callbacks.metric import OnMissing
from callbacks.metrics.dists import DistsNetwork, dists_distance, load_dists
from callbacks.metrics.pieapp import PieAPPModel, load_pieapp, pieapp_score
from callbacks.metrics.value import Value
from callbacks.names import DISTS, PIEAPP
from callbacks.per_image import PerImageMetric
from lightning_modules.step_output import StepOutput

_SETTING = "trainer.callbacks: callbacks.{}.init_args"


class Dists(PerImageMetric):
    """Mean of the images' DISTS (Ding et al., 2022), on 8-bit RGB; not available on sides under 17 pixels.

    Args:
        weights_path: a local copy of piq's `dists_weights.pt`; `None` takes it from torch.hub's cache or
            downloads it.
        backbone_path: a file with torchvision's VGG16 (`features.N.weight` keys); `None` takes ImageNet weights from
            torch.hub's cache or downloads them.
        on_missing: "record" warns once and records the metric as not available where its weights are missing;
            "raise" stops at the start of the validation or test.
    """

    name = DISTS
    unit = ""
    higher_is_better = False

    def __init__(
        self,
        weights_path: str | None = None,
        backbone_path: str | None = None,
        on_missing: OnMissing = "record",
    ) -> None:
        super().__init__()
        self.weights_path = weights_path
        self.backbone_path = backbone_path
        self.on_missing = on_missing
        self.network: DistsNetwork | None = None

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "images": "8-bit RGB",
            "implementation": f"piq {piq.__version__}",
            "weights": _file_name(self.weights_path, piq.DISTS._weights_url),
            "backbone": "torchvision IMAGENET1K_V1" if self.backbone_path is None else Path(self.backbone_path).name,
            "input_range": "[0,1], then ImageNet mean and standard deviation",
            "resize": "shorter side to 256 where it is longer, bilinear without antialiasing",
            "dtype": "float32",
            "dataset": "mean of the images' values",
        }

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the module's device afterwards."""
        if self.network is None:
            self.network = load_dists(self.weights_path, self.backbone_path, _SETTING.format("Dists"))
        self.network.follow(device)

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """DISTS."""
        assert self.network is not None, "prepare comes first"
        return {self.name: dists_distance(self.network, output["image"], output["x_hat"])}


class PieApp(PerImageMetric):
    """Mean of the images' PieAPP (Prashnani et al., 2018), on 8-bit RGB; not available on sides under 64 pixels.

    Args:
        weights_path: a local copy of piq's `PieAPPv0.1.pth`; `None` takes it from torch.hub's cache or downloads it.
        stride: distance of neighbouring 64 x 64 patches in pixels. 27 is piq's default; figures of other strides are
            close but not equal.
        on_missing: see `Dists`.
    """

    name = PIEAPP
    unit = ""
    higher_is_better = False

    def __init__(self, weights_path: str | None = None, stride: int = 27, on_missing: OnMissing = "record") -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1 pixel, not {stride}")
        super().__init__()
        self.weights_path = weights_path
        self.stride = stride
        self.on_missing = on_missing
        self.network: PieAPPModel | None = None

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "images": "8-bit RGB",
            "implementation": f"piq {piq.__version__}",
            "weights": _file_name(self.weights_path, piq.PieAPP._weights_url),
            "input_range": "[0,1], in the network [0,255]",
            "resize": "none",
            "patches": 64,
            "stride": self.stride,
            "dtype": "float32",
            "dataset": "mean of the images' values",
        }

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the module's device afterwards."""
        if self.network is None:
            self.network = load_pieapp(self.weights_path, f"{_SETTING.format('PieApp')}.weights_path")
        self.network.to(device)

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """PieAPP."""
        assert self.network is not None, "prepare comes first"
        return {self.name: pieapp_score(self.network, output["image"], output["x_hat"], self.stride)}


def _file_name(path: str | None, url: str) -> str:
    return Path(path or url).name
