"""Segmentation networks, whose view of a reconstruction `callbacks.MeanIou` compares with the label map."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSemanticSegmentation

from callbacks.hugging_face import load_network, source_name, to_bytes
from callbacks.metrics.precision import full_float32
from datamodules.street_classes import CITYSCAPES_EVALUATED

IGNORED = 255
"""Class of the pixels that a label map maps to nothing, in every data set that has such."""

LabelMap = Literal["identity", "cityscapes34_to_19"]


def map_labels(segmentation: Tensor, label_map: LabelMap) -> Tensor:
    """Label maps in the classes of a network.

    Args:
        segmentation: int (B, h, w).
        label_map: "identity" leaves them; "cityscapes34_to_19" takes the label ids 0 to 33 (and -1, license plates)
            of Cityscapes to the 19 train ids, the others to 255.

    Returns:
        int64 (B, h, w).

    Raises:
        ValueError: an id that the data set does not have.
    """
    segmentation = segmentation.long()
    if label_map == "identity":
        return segmentation
    low, high = segmentation.min().item(), segmentation.max().item()
    if low < -1 or high > 33:
        raise ValueError(
            f"cityscapes34_to_19 takes Cityscapes label ids from -1 to 33; these reach from {low} to {high}. "
            "Set label_map of the segmenter to identity if they hold train ids."
        )
    table = torch.full((35,), IGNORED, device=segmentation.device)
    evaluated = torch.tensor(CITYSCAPES_EVALUATED, device=segmentation.device)
    table[evaluated] = torch.arange(len(evaluated), device=segmentation.device)
    return table[segmentation]  # -1 is the last row, which stays ignored


class Segmenter(ABC):
    """A frozen network that names the class of each pixel.

    Construction is cheap; `prepare` loads the network, and the other members may be used afterwards.
    """

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the device afterwards.

        Raises:
            PretrainedError: its weights cannot be had.
        """

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """Names of the network's classes, by number."""

    @abstractmethod
    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Classes of the pixels, int64 (B, height, width) of `size`.

        Args:
            images: float (B, C, H, W) in [0, 1], on the 8-bit grid, on the device of the network.
            size: height and width of the label map.
        """

    @abstractmethod
    def labels(self, segmentation: Tensor) -> Tensor:
        """The data set's label maps, int (B, h, w), in the network's classes: int64 (B, h, w)."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Which network this is and what it is fed, as plain values without directories."""


class HuggingFaceSegmenter(Segmenter):
    """A semantic segmentation network of the transformers package (SegFormer, UPerNet, DPT and others).

    Images are resized to the scale that the network was trained on and normalised, both by its own image processor;
    logits are resized bilinearly to the label map before the class of each pixel is taken.

    Args:
        pretrained: Hub id, such as `nvidia/segformer-b0-finetuned-cityscapes-1024-1024`, or a folder in Hugging Face
            layout.
        input_size: Height and width that images are resized to before they enter the network; `None` leaves them.
            Cityscapes networks are trained at [1024, 2048], whatever size a codec works on.
        label_map: How the data set's label ids become the network's classes (see `map_labels`).
    """

    def __init__(
        self,
        pretrained: str,
        input_size: tuple[int, int] | None = None,
        label_map: LabelMap = "identity",
    ) -> None:
        if input_size is not None and min(input_size) < 1:
            raise ValueError(f"input_size must be a height and a width of at least 1 pixel, not {input_size}")
        self.pretrained = pretrained
        self.input_size = input_size
        self.label_map: LabelMap = label_map
        self.network: nn.Module | None = None
        self.processor: Any = None

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the device afterwards."""
        if self.network is None:
            setting = "callbacks.segmenters.HuggingFaceSegmenter.init_args.pretrained"
            architecture = AutoModelForSemanticSegmentation
            self.network, self.processor = load_network(
                "segmentation network", architecture, self.pretrained, setting
            )
        self.network.to(device)

    @property
    def classes(self) -> list[str]:
        """Names of the network's classes, by number."""
        assert self.network is not None, "prepare comes first"
        config: Any = self.network.config
        return [config.id2label[i] for i in range(config.num_labels)]

    @torch.no_grad()
    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Classes of the pixels, from logits in float32 whatever precision the run trains in.

        Raises:
            ValueError: the image processor crops or pads, so that logits and label map would not match.
        """
        assert self.network is not None, "prepare comes first"
        scale: dict[str, Any] = {"do_resize": False}
        if self.input_size is not None:
            scale = {"do_resize": True, "size": dict(zip(("height", "width"), self.input_size, strict=True))}
        inputs = self.processor(images=to_bytes(images), return_tensors="pt", **scale).to(images.device)
        wanted, given = self.input_size or images.shape[-2:], inputs["pixel_values"].shape[-2:]
        if tuple(given) != tuple(wanted):
            raise ValueError(
                f"{self.pretrained}: its image processor makes {tuple(given)} of images that should be "
                f"{tuple(wanted)}. Set input_size of {type(self).__name__} to a size that it neither crops nor pads."
            )
        with full_float32(), torch.autocast(images.device.type, enabled=False):
            logits = self.network(**inputs).logits
        return F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(dim=1)

    def labels(self, segmentation: Tensor) -> Tensor:
        """See `map_labels`."""
        return map_labels(segmentation, self.label_map)

    def protocol(self) -> dict[str, Any]:
        """The network's name and the scales."""
        return {
            "segmenter": source_name(self.pretrained),
            "input_size": None if self.input_size is None else list(self.input_size),
            "logits": "bilinear to the label map's size, then the greatest",
            "label_map": self.label_map,
            "dtype": "float32",
        }
