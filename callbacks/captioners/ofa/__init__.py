"""OFA, the captioner of the TACO paper: inference with its published weights, without the fork they were made for."""

from callbacks.captioners.ofa.captioner import OfaCaptioner
from callbacks.captioners.ofa.config import OfaConfig
from callbacks.captioners.ofa.loading import is_ofa
from callbacks.captioners.ofa.model import OfaModel

__all__ = ["OfaCaptioner", "OfaConfig", "OfaModel", "is_ofa"]
