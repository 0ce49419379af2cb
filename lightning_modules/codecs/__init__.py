"""Codecs in plain torch: networks, entropy models, bitstreams. Nothing here imports Lightning."""
