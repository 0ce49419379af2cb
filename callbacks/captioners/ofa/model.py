"""Encoder and decoder under the names of the published weights."""

from torch import nn

from callbacks.captioners.ofa.config import OfaConfig
from callbacks.captioners.ofa.decoder import Decoder
from callbacks.captioners.ofa.encoder import Encoder


class OfaModel(nn.Module):
    """OFA (Wang et al., ICML 2022) for inference: no dropout, no image codes as output.

    Parameter names and shapes are those of the published `pytorch_model.bin`, but for the output projection, which is
    the embedding.
    """

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.encoder.embed_tokens)
