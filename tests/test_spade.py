"""The SPADE decoder: against plain references, and what stage 2 relies on."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.spade import ConditionConv2d, Spade, SpadeDecoder, SpadeResidualBlock
from tests.critic_helpers import convolutions, in_two_processes, label_maps, read_of, spectral_norms


def small(classes: int = 5, noise_dim: int = 4, residual: bool = False) -> SpadeDecoder:
    torch.manual_seed(1)
    return SpadeDecoder(classes, noise_dim, 8, residual)


def code(batch: int = 2, classes: int = 5, height: int = 64, width: int = 64) -> Tensor:
    torch.manual_seed(2)
    return read_of(label_maps(batch, classes, height, width), classes)


# -- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 7), (8, 5)])
@pytest.mark.parametrize("noise_dim", [0, 6])
def test_convolution_of_noise_is_that_of_noise_expanded_over_space(size: tuple[int, int], noise_dim: int) -> None:
    torch.manual_seed(0)
    layer = ConditionConv2d(3, noise_dim, 4).double()
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    noise = torch.randn(2, noise_dim, dtype=torch.float64, requires_grad=True)
    expanded = torch.cat((maps, noise[:, :, None, None].expand(-1, -1, *size)), 1)
    plain = F.conv2d(expanded, layer.weight, layer.bias, padding=1)
    ours, wanted = layer(maps, noise), [layer.weight, layer.bias, *([noise] if noise_dim else [])]
    torch.testing.assert_close(ours, plain)
    pull = torch.randn_like(plain)
    for mine, reference in zip(
        torch.autograd.grad(ours, wanted, pull), torch.autograd.grad(plain, wanted, pull), strict=True
    ):
        torch.testing.assert_close(mine, reference)


def test_spade_normalises_and_modulates_pixel_by_pixel() -> None:
    torch.manual_seed(0)
    layer = Spade(3, 2, 4, 5).double()
    x = 3 * torch.randn(2, 3, 4, 5, dtype=torch.float64) + 1
    maps, noise = torch.randn(2, 2, 4, 5, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    whole = torch.cat((maps, noise[:, :, None, None].expand(-1, -1, 4, 5)), 1)
    features = F.conv2d(whole, layer.shared.weight, layer.shared.bias, padding=1).clamp(min=0)
    gamma = F.conv2d(features, layer.modulation.weight[:3], layer.modulation.bias[:3], padding=1)
    beta = F.conv2d(features, layer.modulation.weight[3:], layer.modulation.bias[3:], padding=1)
    expected = torch.empty_like(x)
    for c in range(3):
        values = [float(v) for v in x[:, c].flatten()]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        for b in range(2):
            for i in range(4):
                for j in range(5):
                    normal = (x[b, c, i, j] - mean) / (variance + 1e-5) ** 0.5
                    expected[b, c, i, j] = (1 + gamma[b, c, i, j]) * normal + beta[b, c, i, j]
    torch.testing.assert_close(layer(x, maps, noise), expected)
    assert not list(layer.norm.parameters())


@pytest.mark.parametrize("channels_out", [6, 4])
def test_block_is_a_residual_block_with_a_learned_shortcut_where_channels_change(channels_out: int) -> None:
    torch.manual_seed(0)
    block = SpadeResidualBlock(6, channels_out, 2, 3, 5).eval()
    x, maps, noise = torch.randn(2, 6, 4, 4), torch.randn(2, 2, 4, 4), torch.randn(2, 3)
    middle = block.spade_0(x, maps, noise)
    middle = F.conv2d(
        torch.where(middle > 0, middle, 0.2 * middle), block.conv_0.weight, block.conv_0.bias, padding=1
    )
    assert middle.shape[1] == channels_out
    last = block.spade_1(middle, maps, noise)
    last = F.conv2d(torch.where(last > 0, last, 0.2 * last), block.conv_1.weight, block.conv_1.bias, padding=1)
    shortcut = x
    if channels_out != 6:
        assert block.spade_shortcut is not None and block.conv_shortcut is not None
        shortcut = F.conv2d(block.spade_shortcut(x, maps, noise), block.conv_shortcut.weight)
    else:
        assert block.conv_shortcut is None
    torch.testing.assert_close(block(x, maps, noise), shortcut + last)


# -- the decoder ----------------------------------------------------------------------------------------------------


def test_channels_are_those_of_figure_9_for_34_classes() -> None:
    g2 = SpadeDecoder(34)
    assert g2.first.weight.shape == (128, 101, 3, 3)
    assert g2.last.weight.shape == (3, 64, 3, 3)
    shapes = [(b.conv_0.weight.shape, b.conv_1.weight.shape) for b in g2.blocks]
    assert shapes == [((128, 128, 3, 3),) * 2, ((128, 128, 3, 3),) * 2, ((64, 128, 3, 3), (64, 64, 3, 3))]
    conditions = [layer for layer in g2.modules() if isinstance(layer, ConditionConv2d)]
    assert len(conditions) == 1 + 2 + 2 + 3
    assert all(layer.weight.shape == (128, 101, 3, 3) for layer in conditions)


def test_residual_blocks_and_nothing_else_are_spectrally_normalised() -> None:
    g2 = small()
    assert {name for name, normal in convolutions(g2).items() if normal} == {
        *(f"blocks.{i}.conv_{j}" for i in range(3) for j in range(2)),
        "blocks.2.conv_shortcut",
    }
    with torch.no_grad():
        for _ in range(30):
            g2(code(), torch.randn(2, 4))
    assert spectral_norms(g2) == pytest.approx(dict.fromkeys(spectral_norms(g2), 1.0), abs=0.02)


@pytest.mark.parametrize("classes", [0, 11, 19, 34])
@pytest.mark.parametrize("size", [(64, 64), (64, 192)])
def test_any_number_of_classes_and_any_size(classes: int, size: tuple[int, int]) -> None:
    g2, read = small(classes), code(2, classes, *size)
    noise = torch.randn(2, 4)
    picture = g2(read, noise)
    assert picture.shape == (2, 3, *size) and bool(picture.isfinite().all())
    gradients = torch.autograd.grad(picture.square().mean(), list(g2.parameters()))
    # Biases before BatchNorm have a gradient of nothing but rounding; all others are moved.
    idle = {f"blocks.{i}.conv_0.bias" for i in range(3)}
    for (name, _), gradient in zip(g2.named_parameters(), gradients, strict=True):
        assert name in idle or bool(gradient.any()), name
    g2.eval()
    torch.testing.assert_close(g2(read, noise)[1:], g2(read[1:], noise[1:]))


@pytest.mark.parametrize("autocast", [False, True])
def test_residual_decoder_begins_as_x_hat_bit_for_bit(autocast: bool) -> None:
    g2, read = small(residual=True), code()
    for mode in (True, False):
        g2.train(mode)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            picture = g2(read, torch.randn(2, 4))
        assert picture.dtype == torch.float32
        assert torch.equal(picture, read[:, :3])
    with torch.no_grad():
        g2.last.weight.normal_()
    assert not torch.equal(g2(read, torch.randn(2, 4)), read[:, :3])


def test_a_residual_decoder_is_the_papers_plus_x_hat() -> None:
    plain, residual, read, noise = small(), small(residual=True), code(), torch.randn(2, 4)
    residual.load_state_dict(plain.state_dict())
    torch.testing.assert_close(residual(read, noise), read[:, :3] + plain(read, noise))


def test_picture_depends_on_x_hat_down_to_half_scale_on_labels_and_on_noise() -> None:
    g2, read, noise = small().eval(), code(), torch.randn(2, 4)
    picture = g2(read, noise)
    signs = 1 - 2.0 * (torch.arange(64) % 4 >= 2)
    half_scale = 0.3 * signs.expand(64, 64)  # averages out at 1/4 and 1/8, not at 1/2
    full_scale = 0.3 * (1 - 2.0 * (torch.arange(64) % 2)).expand(64, 64)  # averages out at 1/2
    for detail, seen in ((half_scale, True), (full_scale, False)):
        changed = read.clone()
        changed[:, :3] += detail
        assert torch.allclose(g2(changed, noise), picture, atol=1e-5) != seen
    relabelled = torch.cat((read[:, :3], read[:, 3:].roll(1, 1)), 1)
    assert not torch.allclose(g2(relabelled, noise), picture, atol=1e-4)
    assert not torch.allclose(g2(read, noise + 1), picture, atol=1e-4)


def test_runs_in_bfloat16_near_float32() -> None:
    g2, read, noise = small().eval(), code(), torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        half = g2(read, noise)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), g2(read, noise), rtol=0.1, atol=0.05)
    g2.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = g2(read, noise).float().square().mean()
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, list(g2.parameters())))


def test_config_and_weights_rebuild_it_and_copies_are_its_equals() -> None:
    g2, read, noise = small(), code(), torch.randn(2, 4)
    g2(read, noise)
    again = SpadeDecoder(**g2.config())
    again.load_state_dict(g2.state_dict())
    expected = g2.eval()(read, noise)
    assert torch.equal(again.eval()(read, noise), expected)
    assert torch.equal(copy.deepcopy(g2)(read, noise), expected)


def test_without_noise_it_is_deterministic() -> None:
    g2 = small(noise_dim=0)
    assert g2.first.weight.shape[1] == 3 + 5
    assert g2(code(), torch.empty(2, 0)).shape == (2, 3, 64, 64)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="width is 7"):
        SpadeDecoder(5, 4, 7)
    with pytest.raises(ValueError, match="noise_dim is -1"):
        SpadeDecoder(5, -1)
    for wrong in (code(classes=4), code()[:, :, :60], torch.zeros(2, 8, 8, 64)):
        with pytest.raises(ValueError, match="reads x_hat and 5 classes"):
            small()(wrong, torch.randn(2, 4))


_STEP = """
from lightning_modules.codecs.spade import SpadeDecoder
g2, rows = SpadeDecoder(**given["config"]), slice(rank, None, 2)
g2.load_state_dict(given["state"])
picture = g2(given["code"][rows], given["noise"][rows])
gradients = torch.autograd.grad(picture.square().mean(), list(g2.parameters()))
for gradient in gradients:
    dist.all_reduce(gradient)
result = {"picture": picture.detach(), "gradients": [g / 2 for g in gradients], "state": g2.state_dict()}
"""


def test_two_processes_normalise_and_learn_as_one(tmp_path: Path) -> None:
    g2, read, noise = small(), code(4), torch.randn(4, 4)
    given = {"config": g2.config(), "state": g2.state_dict(), "code": read, "noise": noise}
    first, second = in_two_processes(tmp_path, given, _STEP)
    picture = g2(read, noise)
    torch.testing.assert_close(first["picture"], picture[0::2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second["picture"], picture[1::2], rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(picture.square().mean(), list(g2.parameters()))
    for mine, theirs in zip(gradients, first["gradients"], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5)
    for name, value in g2.state_dict().items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(first["state"][name], second["state"][name]), name
