"""CLIP's image tower, the network of CMMD."""

import re
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModel, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from callbacks.extractors.base import FeatureExtractor
from callbacks.hugging_face import from_folder_or_hub, read_network
from lightning_modules.pretrained import unusable_file

HUB_ID = "openai/clip-vit-large-patch14-336"
DEFAULT_NAME = "clip_vit_l14_336"
PART = "CLIP image tower"
SETTING = "callbacks.extractors.ClipVision.init_args.pretrained"
LAYOUT = "config.json and model.safetensors, as published on the hub"

_SHAPE = {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "image_size": 336, "projection_dim": 768}
"""Of the default network: a folder that carries its name must hold it."""


class ClipVision(FeatureExtractor):
    """Embeddings of CLIP ViT-L/14 at 336 pixels, the features of CMMD (Jayasumana et al., 2024).

    The whole image, whatever its shape, is resized to the network's square with Pillow's filter (bicubic,
    antialiased) and rounded to 8 bits, as the original CMMD code does with square images; there it takes the central
    square of others, here nothing is cut off.

    Args:
        pretrained: true for openai/clip-vit-large-patch14-336 from the hub (or its cache); a folder in Hugging Face
            layout, or another hub id. Figures of other networks have names of their own; a local copy of the
            default is known by its folder's name, clip-vit-large-patch14-336.
        projection: false takes the class token after the last layer norm (1024), as the TACO paper does; true its
            projection into the space shared with texts (768), as the original CMMD does.
        normalize: bring embeddings to length 1, as CMMD does.
    """

    def __init__(self, pretrained: bool | str = True, projection: bool = False, normalize: bool = True) -> None:
        super().__init__()
        if pretrained is False:
            raise ValueError(
                f"{SETTING} must be true, a hub id or a folder; callbacks.extractors.RandomFeatures needs no weights"
            )
        self.pretrained = pretrained
        self.projection = projection
        self.normalize = normalize
        self._source = HUB_ID.split("/")[1] if pretrained is True else Path(str(pretrained)).expanduser().name
        self.name = DEFAULT_NAME if self._claims_default else re.sub(r"\W+", "_", self._source.lower()).strip("_")
        self.name += ("_projection" if projection else "") + ("" if normalize else "_unnormalized")

    @property
    def _claims_default(self) -> bool:
        return self._source in (HUB_ID.split("/")[1], DEFAULT_NAME)

    @property
    def weights(self) -> str | None:
        """The hub id or folder, if one was given."""
        return None if self.pretrained is True else str(self.pretrained)

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "extractor": "CLIP image tower of transformers",
            "weights": self._source,
            "layer": "image_embeds (projected)"
            if self.projection
            else "pooler_output (class token after layer norm)",
            "images": "8-bit RGB",
            "resize": "bicubic with antialiasing to the network's square, no crop, rounded to 8 bits",
            "preprocessing": "CLIP's mean and standard deviation",
            "normalized": self.normalize,
            "dtype": "float32",
        }

    def load(self) -> nn.Module:
        """Build the network; see `pretrained`."""
        name = HUB_ID if self.pretrained is True else str(self.pretrained)
        architecture = CLIPVisionModelWithProjection if self.projection else CLIPVisionModel

        def read(source: str, local_files_only: bool) -> nn.Module:
            return read_network(PART, architecture, source, SETTING, local_files_only)

        network: Any = from_folder_or_hub(PART, name, SETTING, LAYOUT, ("config.json",), read)
        if self._claims_default:
            given = {key: getattr(network.config, key) for key in _SHAPE}
            if given != _SHAPE:
                differing = {key: value for key, value in given.items() if value != _SHAPE[key]}
                problem = f"it is not {HUB_ID}, whose name it has: {differing}. Rename the folder"
                raise unusable_file(PART, name, problem, SETTING)
        return network

    def extract(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (B, hidden size or projection size)."""
        config: Any = network.config
        side = config.image_size
        images = F.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False)
        images = images.clamp(0, 1).mul(255).round() / 255
        mean, std = (images.new_tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
        output = network(pixel_values=(images - mean) / std)
        features = output.image_embeds if self.projection else output.pooler_output
        return F.normalize(features, dim=1) if self.normalize else features
