"""Where captions come from when captions of originals and of reconstructions are compared."""

from callbacks.captioners.base import Captioner, CaptionError, Side
from callbacks.captioners.caption_file import CaptionFile
from callbacks.captioners.hugging_face import HuggingFaceCaptioner
from callbacks.captioners.ofa import OfaCaptioner

__all__ = ["CaptionError", "CaptionFile", "Captioner", "HuggingFaceCaptioner", "OfaCaptioner", "Side"]
