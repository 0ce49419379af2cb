"""The average of a network's weights is a network whose layers are normalised as it says."""

import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from lightning_modules.moving_average import average_weights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(spectral_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), spectral_norm(nn.Conv2d(8, 4, 3)))


def norms(net: nn.Sequential) -> list[float]:
    """Largest singular value of each normalised weight, 1 where the estimate is right."""
    with torch.no_grad():
        return [float(torch.linalg.matrix_norm(net[i].weight.flatten(1), 2)) for i in (0, 2)]


def test_averaged_layers_are_normalised() -> None:
    moving = network()
    mean, plain = copy.deepcopy(moving).eval(), copy.deepcopy(moving).eval()
    for step in range(300):
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in moving.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))  # in the end singular vectors are others
        moving(torch.rand(2, 3, 16, 16))
        average_weights(mean, moving, 0.98)
        for kept, value in zip(plain.state_dict().values(), moving.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(value, 0.02)
    assert all(abs(norm - 1) < 0.01 for norm in norms(mean)), norms(mean)
    assert max(norms(plain)) > 1.05, "averaging the estimates, too, would not have done"
    assert not any(module.training for module in mean.modules())


def test_everything_else_is_averaged() -> None:
    moving, mean = network(), network().eval()
    with torch.no_grad():
        moving[0].parametrizations.weight.original.fill_(1.0)
        moving[0].bias.fill_(2.0)
    moving(torch.rand(2, 3, 16, 16))
    before = {name: value.clone() for name, value in mean.state_dict().items()}
    average_weights(mean, moving, 0.75)
    for name, value in mean.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 1
        elif not name.endswith(("._u", "._v")):
            torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * moving.state_dict()[name])
