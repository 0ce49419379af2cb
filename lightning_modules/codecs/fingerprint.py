"""What weights are called."""

import hashlib
from collections.abc import Mapping

from torch import nn


def digest(config: str, parts: Mapping[str, nn.Module]) -> str:
    """SHA-256 over a configuration and all weights of some networks."""
    result = hashlib.sha256(config.encode())
    for part, network in parts.items():
        for name, tensor in network.state_dict().items():
            result.update(f"{part}.{name}".encode())
            result.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()
