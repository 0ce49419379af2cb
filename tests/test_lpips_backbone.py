"""AlexNet's features for FID."""

import lpips
import pytest
import torch

from callbacks.extractors import LpipsBackbone
from lightning_modules.errors import PretrainedError


def test_features_are_means_of_the_layers_that_lpips_compares(alexnet: str) -> None:
    extractor = LpipsBackbone("alex", alexnet)
    extractor.prepare(torch.device("cpu"))
    images = torch.rand(3, 3, 64, 64)
    features = extractor(images)
    assert features.shape == (3, 64 + 192 + 384 + 256 + 256)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    state = torch.load(alexnet, weights_only=True)
    for name, parameter in reference.net.named_parameters():
        parameter.data.copy_(state["features." + name.split(".", 1)[1]])
    layers = reference.net(reference.scaling_layer(2 * images - 1))
    torch.testing.assert_close(features, torch.cat([layer.mean((2, 3)) for layer in layers], 1))
    assert extractor.protocol()["weights"] == LpipsBackbone("alex").protocol()["weights"]


def test_digits_are_enlarged(alexnet: str) -> None:
    extractor = LpipsBackbone("alex", alexnet, enlarge=2)
    extractor.prepare(torch.device("cpu"))
    assert extractor(torch.rand(2, 1, 32, 32)).shape == (2, 1152)
    assert extractor != LpipsBackbone("alex", alexnet)
    with pytest.raises(ValueError, match="enlarge"):
        LpipsBackbone(enlarge=0)


def test_missing_weights_are_named(tmp_path: object) -> None:
    with pytest.raises(PretrainedError, match="LpipsBackbone"):
        LpipsBackbone("alex", f"{tmp_path}/none.pth").prepare(torch.device("cpu"))
