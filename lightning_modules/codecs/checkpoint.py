"""A codec, ready to code, from a training checkpoint alone."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lightning_modules.codecs.codec import Codec
from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.codecs.elic import ElicCodec
from lightning_modules.codecs.taco import TacoCodec
from lightning_modules.codecs.text_encoder import ClipTextEncoder
from lightning_modules.errors import CheckpointError

_CODECS: dict[str, type[Codec]] = {c.name: c for c in (ElicCodec, TacoCodec, DigitCodec, ConditionalHyperprior)}


class LoadedCodec(NamedTuple):
    """A codec in eval mode, with g2 attached if it was trained, and its text encoder if it takes captions."""

    codec: Codec
    text_encoder: ClipTextEncoder | None


def load_codec(path: str | Path, device: str | torch.device = "cpu", *, encoder: bool = True) -> LoadedCodec:
    """Rebuild codec and text encoder from what the checkpoint says of them.

    Args:
        path: A checkpoint written by training.
        device: Where to put both.
        encoder: False leaves the text encoder out, which decoding does not need.

    Raises:
        CheckpointError: No such file, not a checkpoint, or one of another program.
    """
    checkpoint = _read(path)
    name, config = checkpoint["codec"]["name"], checkpoint["codec"]["config"]
    if name not in _CODECS:
        raise CheckpointError(f"{path} holds codec {name!r}; this program knows {', '.join(sorted(_CODECS))}")
    codec = _CODECS[name](**config)
    codec.load_state_dict(_part(checkpoint, "codec."))
    if isinstance(codec, ConditionalCodec) and "perceptual" in checkpoint:
        codec.perceptual = codec.load_perceptual(checkpoint["perceptual"])
        codec.perceptual.load_state_dict(_part(checkpoint, "ema."))
    text_encoder = None
    if encoder and "text_encoder" in checkpoint:
        text_encoder = ClipTextEncoder.from_config(checkpoint["text_encoder"])
        text_encoder.load_state_dict(_part(checkpoint, "text_encoder."))
        text_encoder = text_encoder.to(device)
    return LoadedCodec(codec.to(device).eval().requires_grad_(False), text_encoder)


def trained_with(path: str | Path) -> float | None:
    """λ that the codec of a checkpoint was trained with; None where it has none, or the checkpoint does not say.

    Raises:
        CheckpointError: See `load_codec`.
    """
    return _read(path).get("lambda")


def _read(path: str | Path) -> dict[str, Any]:
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist: train one first (fit), or correct the path")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or "codec" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is a checkpoint, but not one that this program wrote (it names no codec)")
    return checkpoint


def _part(checkpoint: dict[str, Any], prefix: str) -> dict[str, Any]:
    state = checkpoint["state_dict"]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
