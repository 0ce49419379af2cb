"""The small segmentation network of street scenes that this program trains, for `callbacks.MeanIou`."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.made_on_demand import make_checkpoint
from callbacks.metrics.precision import full_float32
from callbacks.segmenters import Segmenter
from lightning_modules.judge_checkpoint import weights_name
from lightning_modules.segmentation_network import LoadedSegmenter, load_segmenter


class StreetSegmenter(Segmenter):
    """The network of `fit -c configs/streets_segmenter.yaml`, so that the figure exists without downloads.

    It reads images at the size they have, so they should be of the size that it was trained on. Its figures are not
    comparable with those of published networks; compare them with `miou_original` beside them.

    Args:
        checkpoint: written by that command, such as `runs/streets_segmenter/last.ckpt`.
        make: arguments of the command line that write the checkpoint where it does not exist, and that continue its
            training where this has not come to its end by the `config.yaml` beside it; null takes what is there.
    """

    def __init__(self, checkpoint: str, make: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.make = make
        self.loaded: LoadedSegmenter | None = None

    def prepare(self, device: torch.device) -> None:
        """Load the network at the first call; follow the device afterwards."""
        if self.loaded is None:
            setting = "callbacks.street_segmenter.StreetSegmenter.init_args.checkpoint"
            if self.make is not None:
                make_checkpoint(Path(self.checkpoint).expanduser(), self.make)
            self.loaded = load_segmenter(self.checkpoint, setting)
        self.loaded.network.to(device)

    @property
    def classes(self) -> list[str]:
        """Names of the network's classes, by number: those of the data that count, without void."""
        assert self.loaded is not None, "prepare comes first"
        return list(self.loaded.table.evaluated)

    @torch.no_grad()
    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Classes of the pixels, from logits in float32 whatever precision the run trains in.

        Raises:
            ValueError: images that are not of three channels.
        """
        assert self.loaded is not None, "prepare comes first"
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"the street segmenter takes images (B, 3, H, W), not {tuple(images.shape)}")
        with full_float32(), torch.autocast(images.device.type, enabled=False):
            logits = self.loaded.network(images.float())
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits.argmax(dim=1)

    def labels(self, segmentation: Tensor) -> Tensor:
        """Label maps of the table that the network was trained with, in its classes; 255 where none counts.

        Raises:
            ValueError: the label maps are of another table.
        """
        assert self.loaded is not None, "prepare comes first"
        return self.loaded.table.to_evaluated(segmentation)

    def protocol(self) -> dict[str, Any]:
        """The network, its classes and a digest of its weights, which have names once they are loaded."""
        return {
            "segmenter": "small residual U-Net, trained on street scenes by this program",
            "weights": weights_name(None if self.loaded is None else self.loaded.digest),
            "classes": None if self.loaded is None else self.loaded.table.name,
            "input_size": None,
            "logits": "bilinear to the label map's size, then the greatest",
            "dtype": "float32",
        }
