"""Captions by any image-to-text model of the transformers package."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, ProcessorMixin

from callbacks.captioners.base import Captioner, CaptionError, Side
from callbacks.hugging_face import from_folder_or_hub, read_network, source_name
from callbacks.metrics.precision import full_float32

PART = "captioner"
LAYOUT = "config.json, model.safetensors and the files of processor and tokeniser, as published on the hub"
SETTING = "callbacks.captioners.HuggingFaceCaptioner.init_args.pretrained"


class HuggingFaceCaptioner(Captioner):
    """Captions images with a pretrained model: BLIP, BLIP-2, GIT, ViT-GPT2, LLaVA and others.

    Decoding is by beam search (or greedy with one beam) without sampling, in full float32 whatever the
    trainer's precision, so that captions can be repeated. Images go to the model's own processor as 8-bit RGB.

    Args:
        pretrained: Hub id, such as `Salesforce/blip-image-captioning-base`, or a folder in Hugging Face layout.
        prompt: Words that the caption continues (BLIP: "a photo of"), or the request to a chat model, which
            cannot do without one. They are not part of the returned caption. `None` for no words.
        max_new_tokens: Longest caption.
        num_beams: Width of the beam search. 3 is what BLIP's authors caption with.
    """

    def __init__(
        self, pretrained: str, prompt: str | None = None, max_new_tokens: int = 30, num_beams: int = 3
    ) -> None:
        self.pretrained = pretrained
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self._model: Any = None
        self._processor: Any = None
        self._tokenizer: Any = None

    def prepare(self, device: torch.device) -> None:
        """Load the model at the first call; follow the device afterwards.

        Raises:
            PretrainedError: the folder or the hub lacks it, or it is of another kind.
            CaptionError: the prompt does not fit the model, or there is nothing to search for or with.
        """
        if self.num_beams < 1 or self.max_new_tokens < 1:
            raise CaptionError(
                f"num_beams is {self.num_beams} and max_new_tokens {self.max_new_tokens}: set both to at least 1"
            )
        if self._model is None:
            self._load()
        self._model.to(device)

    def protocol(self) -> dict[str, Any]:
        """The model and how it is asked."""
        return {
            "captioner": source_name(self.pretrained),
            "architecture": None if self._model is None else type(self._model).__name__,
            "prompt": self.prompt,
            "decoding": f"beam search, {self.num_beams} beams, no sampling",
            "max_new_tokens": self.max_new_tokens,
            "dtype": "float32",
        }

    @torch.inference_mode()
    def __call__(self, images: Tensor, names: list[str], side: Side) -> list[str]:
        """Generate captions, with single spaces."""
        pixels = (255 * images.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        inputs = self._inputs([Image.fromarray(image) for image in pixels]).to(self._model.device)
        # `do_sample` is given because some models' own generation settings sample.
        options = {"do_sample": False, "num_beams": self.num_beams, "max_new_tokens": self.max_new_tokens}
        with full_float32(), torch.autocast(images.device.type, enabled=False):
            sequences = self._model.generate(**inputs, **options)
        given = inputs.get("input_ids")
        if given is not None and torch.equal(sequences[:, : given.shape[1]], given):
            sequences = sequences[:, given.shape[1] :]  # decoder-only models repeat what they were asked
        captions = self._tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return [self._without_prompt(" ".join(caption.split())) for caption in captions]

    def _inputs(self, pictures: list[Image.Image]) -> Any:
        if self.prompt is None:
            return self._processor(images=pictures, return_tensors="pt")
        text = self.prompt
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": self.prompt}]
            message = [{"role": "user", "content": content}]
            text = self._processor.apply_chat_template(message, add_generation_prompt=True)
        inputs = self._processor(images=pictures, text=[text] * len(pictures), return_tensors="pt")
        inputs.pop("token_type_ids", None)  # of one kind throughout, and refused by GIT
        if self._model.config.model_type == "git":  # its tokeniser closes the sentence that is to be continued
            inputs["input_ids"] = inputs["input_ids"][:, :-1]
            inputs["attention_mask"] = inputs["attention_mask"][:, :-1]
        return inputs

    def _without_prompt(self, caption: str) -> str:
        """Encoder-decoder models such as BLIP give the prompt back in their own spelling of it."""
        prompt = "" if self.prompt is None else " ".join(self.prompt.split())
        return caption[len(prompt) :].lstrip() if caption.lower().startswith(prompt.lower()) else caption

    def _load(self) -> None:
        self._model, self._processor, self._tokenizer = from_folder_or_hub(
            PART, self.pretrained, SETTING, LAYOUT, ("config.json",), _read
        )
        chats = bool(getattr(self._processor, "chat_template", None))
        if chats and self.prompt is None:
            raise CaptionError(
                f"{self.pretrained} is a chat model and must be asked: set prompt of {type(self).__name__}, for "
                'example "Describe the image in one sentence."'
            )
        if self.prompt is not None and not isinstance(self._processor, ProcessorMixin):
            raise CaptionError(f"{self.pretrained} takes images only: set prompt of {type(self).__name__} to null")


def _read(name: str, local_files_only: bool) -> tuple[Any, Any, Any]:
    """Model, processor and tokeniser."""
    processor = AutoProcessor.from_pretrained(name, local_files_only=local_files_only)
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:  # ViT-GPT2 and its like publish the two halves only
        processor = AutoImageProcessor.from_pretrained(name, local_files_only=local_files_only)
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local_files_only)
    model = read_network(PART, AutoModelForImageTextToText, name, SETTING, local_files_only)
    return model, processor, tokenizer
