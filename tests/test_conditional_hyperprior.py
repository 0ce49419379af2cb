"""The street-scenes codec: its networks as Fig. 9 has them, and its files."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.codecs.bitstream import (
    Bitstream,
    BitstreamError,
    LatentMismatchError,
    TruncatedFileError,
    WrongWeightsError,
)
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.codecs.hyperprior_coder import one_hot
from lightning_modules.losses.rate_distortion import bits
from tests.street_helpers import CLASSES, picture, random_maps, small_hyperprior


def convolutions(network: nn.Module) -> list[tuple[int, int, int, int]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in network.modules()
        if isinstance(m, kinds)
    ]


def test_channels_are_those_of_fig_9_for_34_classes() -> None:
    codec = ConditionalHyperprior()
    assert convolutions(codec.g_a) == [(37, 128, 5, 2), (162, 128, 5, 2), (162, 128, 5, 2), (162, 192, 5, 2)]
    assert convolutions(codec.g1) == [(226, 128, 5, 2), (162, 128, 5, 2), (162, 128, 5, 2), (162, 3, 5, 2)]
    assert convolutions(codec.h_a) == [(226, 128, 3, 1), (128, 128, 5, 2), (162, 128, 5, 2)]
    assert convolutions(codec.h_s) == [(162, 128, 5, 2), (128, 128, 5, 2), (162, 384, 3, 1)]
    code = ConditionalHyperprior(hyper="code")
    assert convolutions(code.h_s) == [(162, 192, 5, 2), (226, 288, 5, 2), (288, 384, 3, 1)]
    shapes = {name: tuple(p.shape) for name, p in codec.g_a.named_parameters()}
    assert shapes["layers.0.weight"] == (128, 37, 5, 5) and shapes["layers.1.gamma"] == (128, 128)
    assert codec.perceptual_decoder(None).config()["noise_dim"] == 64


@pytest.mark.parametrize("classes", [0, 11, 19])
def test_other_numbers_of_classes(classes: int) -> None:
    codec = ConditionalHyperprior(classes=classes, N=8, M=12)
    assert convolutions(codec.g_a)[0][0] == 3 + classes and convolutions(codec.g1)[0][0] == 12 + classes
    y = torch.randint(0, classes, (2, 8, 16)) if classes else None
    out = codec(torch.rand(2, 3, 64, 128), y, torch.arange(2))
    assert out["x_hat"].shape == (2, 3, 64, 128) and out["code"].shape == (2, 3 + classes, 64, 128)
    assert set(out["likelihoods"]) == {"y", "z"} | ({"labels"} if classes else set())
    assert out["y_hat"].shape == (2, 12, 4, 8)


def test_the_map_enters_at_its_scales() -> None:
    """Against the forward pass written out: one-hot maps at the scales of Fig. 9."""
    codec = small_hyperprior()
    x, y = picture(64, 128), random_maps(1, 8, 16)
    at = {s: one_hot(y, CLASSES)[..., :: s // 8, :: s // 8] for s in (8, 16, 32, 64)}
    at |= {s: one_hot(y.repeat_interleave(8 // s, 1).repeat_interleave(8 // s, 2), CLASSES) for s in (1, 2, 4)}
    layers = iter(codec.g_a.layers)
    v = x
    for scale in (1, 2, 4, 8):
        v = next(layers)(torch.cat((v, at[scale]), 1))
        v = v if scale == 8 else next(layers)(v)
    maps = one_hot(y, CLASSES)
    torch.testing.assert_close(codec.g_a(x, maps), v)
    first, relu, second, _, third = codec.h_a.layers
    w = third(torch.cat((relu(second(relu(first(torch.cat((v, at[16]), 1))))), at[32]), 1))
    torch.testing.assert_close(codec.h_a(v, maps), w)
    first, relu, second, _, third = codec.h_s.layers
    s = third(torch.cat((relu(second(relu(first(torch.cat((w, at[64]), 1))))), at[16]), 1))
    torch.testing.assert_close(codec.h_s(w, maps), s)


@pytest.mark.parametrize("size", [(64, 128), (1, 1), (67, 30), (200, 129)], ids=str)
@pytest.mark.parametrize("classes", [0, CLASSES])
def test_files_give_back_latents_map_and_picture(size: tuple[int, int], classes: int) -> None:
    codec = small_hyperprior(classes)
    x = picture(*size)
    y = random_maps(1, -(-size[0] // 8), -(-size[1] // 8)) if classes else None
    encoded = codec.encode(x, y)
    stored, out = codec.read(encoded.data), codec(x, y)
    assert stored.labels is None if y is None else torch.equal(stored.labels, y[0])
    assert torch.equal(stored.y_hat.float(), out["y_hat"])
    assert torch.equal(codec.decompress(encoded.data), out["x_hat"])
    assert out["y_hat"].unique().numel() > 3
    likelihood = sum(float(bits(values).sum()) for values in encoded.likelihoods().values())
    in_eval = sum(float(bits(values.double()).sum()) for values in out["likelihoods"].values())
    assert likelihood == pytest.approx(in_eval, rel=1e-9)
    assert 8 * len(encoded.data) <= 1.01 * likelihood + 8 * 32


def test_padding_repeats_edges_of_picture_and_map() -> None:
    codec = small_hyperprior()
    x, y = picture(70, 100), random_maps(1, 9, 13)
    code = codec.code(x, y)
    assert code.shape == (1, 3 + CLASSES, 128, 128) == (1, 3 + CLASSES, *codec.padded(x).shape[-2:])
    padded = code[0, 3:].argmax(0)
    assert torch.equal(padded[:72, :104], y[0].repeat_interleave(8, 0).repeat_interleave(8, 1))
    assert (padded[72:, 0] == y[0, -1, 0]).all() and (padded[0, 104:] == y[0, 0, -1]).all()


def test_quantisation_noise_is_a_function_of_keys() -> None:
    codec = small_hyperprior().train()
    x, y, keys = torch.cat((picture(64, 64), picture(64, 64, 1))), random_maps(2, 8, 8), torch.tensor([5, 6])
    both, second = codec(x, y, keys), codec(x[1:], y[1:], keys[1:])
    torch.testing.assert_close(both["likelihoods"]["y"][1:], second["likelihoods"]["y"])
    assert not torch.equal(both["likelihoods"]["y"], codec(x, y, keys + 1)["likelihoods"]["y"])


def test_rate_and_distortion_reach_all_networks() -> None:
    codec = small_hyperprior().train()
    out = codec(picture(64, 64), random_maps(1, 8, 8), torch.tensor([1]))
    rate = sum(bits(values.float()).sum() for values in out["likelihoods"].values())
    (rate + out["x_hat"].square().sum() + codec.auxiliary_loss()).backward()
    assert [name for name, p in codec.named_parameters() if p.grad is None] == []


def test_damaged_files_are_named_errors() -> None:
    codec = small_hyperprior()
    data = codec.compress(picture(64, 64), random_maps(1, 8, 8))
    draw = random.Random(0)
    for _ in range(100):
        damaged = bytearray(data)
        if draw.random() < 0.7:
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            damaged = damaged[: draw.randrange(len(data))]
        with pytest.raises(BitstreamError):
            codec.read(bytes(damaged))
    with pytest.raises(TruncatedFileError):
        codec.read(data[:-5])
    stream = Bitstream.from_bytes(data)
    for fill in (0, 85, 255):
        payload = stream.payload[:8] + bytes([fill]) * (len(stream.payload) - 8)
        with pytest.raises(LatentMismatchError):
            codec.read(replace(stream, payload=payload).to_bytes())


def test_every_part_of_the_decoder_is_in_the_fingerprint() -> None:
    codec = small_hyperprior()
    data = codec.compress(picture(64, 64), random_maps(1, 8, 8))
    for name in ("g_a", "h_a"):
        with torch.no_grad():
            getattr(codec, name).layers[0].bias += 1
        codec.read(data)  # encoders may change
    for name in ("g1", "h_s"):
        with torch.no_grad():
            getattr(codec, name).layers[0].bias += 1e-3
        with pytest.raises(WrongWeightsError):
            codec.read(data)
        data = codec.compress(picture(64, 64), random_maps(1, 8, 8))
    codec.label_prior.fit(random_maps(3, 8, 12, seed=5))
    with pytest.raises(WrongWeightsError):
        codec.read(data)


def test_realism_and_noise_come_from_one_file() -> None:
    codec = small_hyperprior()
    data = codec.compress(picture(70, 100), random_maps(1, 9, 13))
    torch.manual_seed(1)
    codec.perceptual = codec.perceptual_decoder(6, "random").eval()
    mse, perceptual = codec.decompress(data, 0), codec.decompress(data, 1)
    assert mse.shape == (1, 3, 70, 100) and not torch.equal(mse, perceptual)
    assert torch.equal(codec.decompress(data), perceptual) and torch.equal(codec.decompress(data, 1), perceptual)
    torch.testing.assert_close(codec.decompress(data, 0.4), 0.6 * mse + 0.4 * perceptual)
    stored = codec.read(data)
    codec.perceptual.noise_dim = 6
    other = stored._replace(keys=stored.keys + 1)
    assert not torch.equal(codec.show(other, 1), perceptual)
    codec.perceptual = None
    with pytest.raises(ValueError, match="only g1 was trained"):
        codec.decompress(data, 0.5)


def test_threads_do_not_change_what_is_decoded() -> None:
    codec = small_hyperprior()
    x, y = picture(128, 192), random_maps(1, 16, 24)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        data = codec.compress(x, y)
        torch.set_num_threads(1)
        assert torch.equal(codec.read(data).labels, y[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"label maps of shape \(1, 8, 8\), not None"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), r"not \(1, 4, 4\)"),
    ],
    ids=["missing", "size"],
)
def test_label_maps_that_do_not_fit(y: Tensor | None, message: str) -> None:
    codec = small_hyperprior()
    with pytest.raises(ValueError, match=message):
        codec.encode(picture(64, 64), y)
    with pytest.raises(ValueError, match="no side information"):
        small_hyperprior(0).encode(picture(64, 64), torch.zeros(1, 8, 8, dtype=torch.int64))


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"codec\.classes is 1"):
        ConditionalHyperprior(classes=1)
    with pytest.raises(ValueError, match=r"codec\.N 0"):
        ConditionalHyperprior(N=0)
    with pytest.raises(ValueError, match="one image"):
        small_hyperprior(0).encode(torch.rand(2, 3, 64, 64))


def test_a_checkpoint_rebuilds_codec_label_prior_and_g2(tmp_path: object) -> None:
    codec = small_hyperprior()
    g2 = codec.perceptual_decoder(6, "random")
    state = {f"codec.{k}": v for k, v in codec.state_dict().items()} | {
        f"ema.{k}": v for k, v in g2.state_dict().items()
    }
    path = f"{tmp_path}/last.ckpt"
    described = {"name": codec.name, "config": codec.config()}
    torch.save({"codec": described, "state_dict": state, "perceptual": g2.config()}, path)
    loaded = load_codec(path).codec
    x, y = picture(64, 64), random_maps(1, 8, 8)
    assert loaded.compress(x, y) == codec.compress(x, y)
    codec.perceptual = g2.eval()
    assert torch.equal(loaded.decompress(codec.compress(x, y)), codec.decompress(codec.compress(x, y)))
