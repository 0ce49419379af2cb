"""Fidelity and perceptual quality of single images."""

from typing import Any

import torch

from callbacks.metric import OnMissing
from callbacks.metrics.lpips import InputRange, lpips_distance
from callbacks.metrics.ms_ssim import PROTOCOL as MS_SSIM_PROTOCOL
from callbacks.metrics.ms_ssim import ms_ssim
from callbacks.metrics.mse import mse
from callbacks.metrics.psnr import psnr
from callbacks.metrics.value import Value
from callbacks.names import MS_SSIM, MSE, PSNR, lpips_name
from callbacks.per_image import PerImageMetric
from lightning_modules.losses.lpips_network import LpipsNet, LpipsNetwork, backbone_name, load_lpips
from lightning_modules.step_output import StepOutput


class Psnr(PerImageMetric):
    """Mean of the images' PSNR in dB, on 8-bit RGB. Identical images have `inf`, and so has then the mean."""

    name = PSNR
    unit = "dB"
    higher_is_better = True

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {"images": "8-bit RGB", "mse": "over pixels and channels", "dataset": "mean of the images' dB"}

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """PSNR in dB."""
        return {self.name: psnr(output["image"], output["x_hat"]).tolist()}


class Mse(PerImageMetric):
    """Mean of the images' mean squared error, on 8-bit RGB as values in [0, 1]; times 255² it is that of the
    bytes."""

    name = MSE
    unit = ""
    higher_is_better = False

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "images": "8-bit RGB",
            "range": "[0,1]",
            "mse": "over pixels and channels",
            "dtype": "float64",
            "dataset": "mean of the images' values",
        }

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """Mean squared error."""
        return {self.name: mse(output["image"], output["x_hat"]).tolist()}


class MsSsim(PerImageMetric):
    """Mean of the images' MS-SSIM in [0, 1], on 8-bit RGB; not available on sides of 160 pixels or fewer."""

    name = MS_SSIM
    unit = ""
    higher_is_better = True

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {"images": "8-bit RGB", **MS_SSIM_PROTOCOL, "dataset": "mean of the images' values, not in dB"}

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """MS-SSIM."""
        return {self.name: ms_ssim(output["image"], output["x_hat"])}


class Lpips(PerImageMetric):
    """Mean of the images' LPIPS (v0.1), on 8-bit RGB.

    Figures of different protocols have different names: `lpips` (AlexNet on [-1, 1], the customary one),
    `lpips_vgg`, `lpips_01`, `lpips_vgg_01`.

    Args:
        net: backbone, AlexNet ("alex") or VGG16 ("vgg").
        pretrained: true takes torchvision's ImageNet weights from torch.hub's cache or downloads them; a
            string is the path of a file with torchvision's keys; false has random weights, whose figures mean
            nothing (tests).
        input_range: what the network is fed. "[-1,1]" is what it was trained on. "[0,1]" reproduces the TACO
            authors' evaluation, whose published figures depend on it.
        on_missing: "record" warns once and records the metric as not available where its weights are missing;
            "raise" stops at the start of the validation or test.
    """

    unit = ""
    higher_is_better = False

    def __init__(
        self,
        net: LpipsNet = "alex",
        pretrained: bool | str = True,
        input_range: InputRange = "[-1,1]",
        on_missing: OnMissing = "record",
    ) -> None:
        super().__init__()
        self.name = lpips_name(net, input_range)
        self.net: LpipsNet = net
        self.pretrained = pretrained
        self.input_range: InputRange = input_range
        self.on_missing = on_missing
        self.network: LpipsNetwork | None = None

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "images": "8-bit RGB",
            "implementation": "lpips package, version 0.1 heads",
            "net": self.net,
            "backbone": backbone_name(self.net, self.pretrained),
            "input_range": self.input_range,
            "dataset": "mean of the images' values",
        }

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the module's device afterwards."""
        if self.network is None:
            setting = "trainer.callbacks: callbacks.Lpips.init_args.pretrained"
            self.network = load_lpips(self.net, self.pretrained, setting)
        self.network.to(device)

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """LPIPS distance."""
        assert self.network is not None, "prepare comes first"
        values = lpips_distance(self.network, self.net, output["image"], output["x_hat"], self.input_range)
        return {self.name: values}
