"""Captions by OFA."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from callbacks.captioners.base import Captioner, CaptionError, Side
from callbacks.captioners.ofa.generate import beam_search
from callbacks.captioners.ofa.loading import load_ofa
from callbacks.captioners.ofa.model import OfaModel
from callbacks.captioners.ofa.stem import STRIDE
from callbacks.captioners.ofa.words import Words
from callbacks.hugging_face import source_name
from callbacks.metrics.precision import full_float32

SETTING = "callbacks.captioners.OfaCaptioner.init_args.pretrained"

IMAGE_SIZES = {256: 256, 512: 256, 768: 384, 1024: 480, 1280: 480}
"""Width of the model -> side in pixels that images are resized to, as in its pretraining (OFA paper, appendix A)."""


class OfaCaptioner(Captioner):
    """Captions images with OFA, the captioner of the TACO paper.

    Images are resized to a square with bicubic interpolation and asked about in words; the answer is found by beam
    search, in full float32 whatever the trainer's precision, so that captions can be repeated.

    Args:
        pretrained: Hub id, `OFA-Sys/ofa-tiny`, `-medium`, `-base`, `-large` or `-huge`, or a folder with config.json,
            vocab.json, merges.txt and pytorch_model.bin or model.safetensors.
        prompt: What is asked. It begins with a space, as in the authors' training.
        num_beams: Width of the beam search.
        no_repeat_ngram_size: No sequence of so many tokens occurs twice in a caption; 0 allows it.
        max_new_tokens: Longest caption.
        image_size: Side in pixels that images are resized to; null for that of the model's pretraining, 256 for tiny
            and medium, 384 for base, 480 for large and huge.
    """

    def __init__(
        self,
        pretrained: str = "OFA-Sys/ofa-large",
        prompt: str = " what does the image describe?",
        num_beams: int = 5,
        no_repeat_ngram_size: int = 3,
        max_new_tokens: int = 16,
        image_size: int | None = None,
    ) -> None:
        self.pretrained = pretrained
        self.prompt = prompt
        self.num_beams = num_beams
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.max_new_tokens = max_new_tokens
        self.image_size = image_size
        self._loaded: tuple[OfaModel, Words] | None = None

    def prepare(self, device: torch.device) -> None:
        """Load the model at the first call; follow the device afterwards.

        Raises:
            PretrainedError: the folder or the hub lacks it, or its files are not OFA's.
            CaptionError: a setting is out of the model's range.
        """
        if self._loaded is None:
            loaded = load_ofa(self.pretrained, SETTING)
            self._check(loaded[0], len(loaded[1].encode(self.prompt)))
            self._loaded = loaded
        self._loaded[0].to(device)

    def protocol(self) -> dict[str, Any]:
        """The model and how it is asked."""
        return {
            "captioner": source_name(self.pretrained),
            "architecture": "OFA",
            "prompt": self.prompt,
            "image_size": self._side() if self._loaded else self.image_size,
            "decoding": f"beam search, {self.num_beams} beams, no sampling",
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
            "max_new_tokens": self.max_new_tokens,
            "dtype": "float32",
        }

    @torch.inference_mode()
    def __call__(self, images: Tensor, names: list[str], side: Side) -> list[str]:
        """Generate captions, with single spaces."""
        if self._loaded is None:
            raise CaptionError("the captioner has not been prepared")
        model, words = self._loaded
        device = model.encoder.embed_tokens.weight.device
        squares = torch.stack([self._square(image) for image in images]).to(device)
        tokens = torch.tensor([words.encode(self.prompt)], device=device).expand(len(images), -1)
        with full_float32(), torch.autocast(device.type, enabled=False):
            source = model.encoder(squares, tokens)
            found = beam_search(model.decoder, source, self.num_beams, self.max_new_tokens, self.no_repeat_ngram_size)
        return [words.decode(ids) for ids in found]

    def _square(self, image: Tensor) -> Tensor:
        """An image (3, H, W) in [0, 1], resized by Pillow as in the authors' code, in [-1, 1]."""
        pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
        side = self._side()
        square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).float().div(255).sub(0.5).div(0.5)

    def _side(self) -> int:
        assert self._loaded is not None
        return self.image_size or IMAGE_SIZES[self._loaded[0].config.d_model]

    def _check(self, model: OfaModel, prompt_length: int) -> None:
        config = model.config
        if self.image_size is None and config.d_model not in IMAGE_SIZES:
            raise CaptionError(
                f"{self.pretrained} has width {config.d_model}, of which no published model is: set image_size of "
                "OfaCaptioner to the side of its training images in pixels"
            )
        side, limit = self.image_size or IMAGE_SIZES[config.d_model], STRIDE * config.image_bucket_size
        if not STRIDE <= side <= limit:
            raise CaptionError(f"image_size is {side}: set it to {STRIDE} to {limit} pixels")
        if self.num_beams < 1 or self.no_repeat_ngram_size < 0:
            raise CaptionError(
                f"num_beams is {self.num_beams} and no_repeat_ngram_size {self.no_repeat_ngram_size}: set them to at "
                "least 1 and 0"
            )
        longest = config.max_position_embeddings
        if not 1 <= self.max_new_tokens < longest or prompt_length > longest:
            raise CaptionError(
                f"the prompt has {prompt_length} tokens and max_new_tokens is {self.max_new_tokens}: OFA takes "
                f"prompts of at most {longest} tokens and 1 to {longest - 1} new ones"
            )
