"""Multiply-accumulate operations, counted by part."""

import pytest
import torch
from torch import nn

from lightning_modules.codecs.complexity import macs_by_part
from lightning_modules.codecs.elic import ElicCodec
from tests.conftest import small_taco


def test_convolution_and_matrix_product_by_hand() -> None:
    convolution, linear = nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.Linear(8, 10)
    counts = macs_by_part(
        {"conv": convolution, "head": nn.Sequential(linear, nn.ReLU()), "unused": nn.Linear(1, 1)},
        lambda: linear(convolution(torch.zeros(2, 3, 16, 16)).mean((2, 3))),
    )
    assert counts == {"conv": 2 * 8 * 8 * 8 * 3 * 25, "head": 2 * 8 * 10}


def test_a_part_called_inside_another_is_its_own() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor, guest: nn.Module) -> torch.Tensor:
            y: torch.Tensor = self.last(guest(self.first(x)))
            return y

    outer, guest = Outer(), nn.Linear(4, 4)
    counts = macs_by_part({"outer": outer, "guest": guest}, lambda: outer(torch.zeros(1, 4), guest))
    assert counts == {"outer": 16 + 8, "guest": 16}


def test_papers_elic() -> None:
    """g_s alone is 33.4 GFLOP on 256x256 pixels, counted independently with another tool."""
    codec = ElicCodec()
    kmacs = codec.kmacs_per_pixel()
    assert codec.training, "the mode is given back"
    assert kmacs["g_s"] * 2 * 256**2 / 1e6 == pytest.approx(33.4, abs=0.05)
    assert kmacs.keys() == {"g_a", "g_s", "h_a", "h_s", "context"}
    assert sum(kmacs.values()) == pytest.approx(562, abs=1)


def test_record_counts_adapter_and_text_encoder() -> None:
    module = small_taco().eval()
    identity = module.result_identity()
    assert {"adapter", "text_encoder"} < identity["kmacs_per_pixel"].keys()
    assert identity["weights"] == module.codec.fingerprint() and not module.codec.training
