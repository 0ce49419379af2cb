"""The digits codec: its networks, its entropy model, and its files."""

import math
import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_modules.codecs.bernoulli_code import BernoulliCode, binarise
from lightning_modules.codecs.bitstream import (
    Bitstream,
    BitstreamError,
    LatentMismatchError,
    TruncatedFileError,
    WrongCodecError,
    WrongWeightsError,
    _crc16,
)
from lightning_modules.codecs.digit_decoder import DigitDecoder
from lightning_modules.codecs.digit_networks import DigitCritic, copy_decoder, decoder, encoder
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.codecs.keyed_noise import keyed_normal, keyed_uniform
from lightning_modules.losses.rate_distortion import bits
from tests.digit_helpers import random_digits, small_codec, with_g2


def channels(network: nn.Module) -> list[tuple[int, int]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, kinds)]


def test_networks_are_those_of_fig_8() -> None:
    codec = DigitCodec(bits=16)
    assert channels(codec.f) == [(1, 128), (128, 256), (256, 512), (512, 128), (128, 16)]
    # "rate" in Fig. 8 is the number of inputs of the decoder: code and label.
    assert channels(codec.g1) == [(26, 128), (128, 512), (512, 256), (256, 128), (128, 1)]
    assert channels(codec.perceptual_decoder(None)) == [(100, 128), (128, 512), (512, 256), (256, 128), (128, 1)]
    assert [tuple(p.shape) for p in codec.prior.parameters()] == [(16, 10), (16,), (16, 16), (16,)]
    assert channels(DigitCodec(bits=4, conditional=False).g1)[0] == (4, 128)


@pytest.mark.parametrize("variant", ["fig8", "yan"])
@pytest.mark.parametrize("width", [8, 64])
def test_sizes_go_to_one_and_back(variant: str, width: int) -> None:
    x, y = random_digits(2)
    codec = DigitCodec(bits=3, variant=variant, width=width).eval()
    assert codec.f(x).shape == (2, 3, 1, 1)
    out = codec(x, y)
    assert out["x_hat"].shape == x.shape and out["code"].shape == (2, 13, 1, 1)
    g2 = codec.perceptual_decoder(7)
    assert g2(out["code"], torch.zeros(2, 7)).shape == x.shape
    assert DigitDecoder(**g2.config()).state_dict().keys() == g2.state_dict().keys()


def test_yans_networks_are_those_of_their_code() -> None:
    assert channels(encoder("yan", 64, 8)) == [(1, 64), (64, 128), (128, 256), (256, 64), (64, 8)]
    g2 = DigitCodec(bits=8, conditional=False, variant="yan", width=64).perceptual_decoder(None)
    assert channels(g2) == [(100, 128), (128, 64), (64, 32), (32, 1)]
    critic = DigitCritic(8)
    assert channels(critic) == [(1, 16), (16, 32), (32, 64), (64, 128), (8, 128), (256, 64), (64, 1)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in critic.modules())


def test_binary_code_has_the_gradient_of_the_identity() -> None:
    t = torch.tensor([-0.9, -0.1, 0.0, 0.1, 0.9], requires_grad=True)
    code = binarise(t)
    assert code.tolist() == [-1, -1, -1, 1, 1]
    (code * torch.arange(5)).sum().backward()
    assert t.grad is not None and t.grad.tolist() == [0, 1, 2, 3, 4]


def test_entropy_model_is_independent_bernoullis() -> None:
    model = BernoulliCode(3, 10)
    condition = torch.eye(10)[:4, :, None, None]
    code = torch.tensor([[1.0, -1, 1], [-1, -1, -1], [1, 1, 1], [-1, 1, -1]])[:, :, None, None].requires_grad_()
    p = torch.sigmoid(model.network(condition.flatten(1)))
    expected = torch.where(code.flatten(1) > 0, p, 1 - p)
    likelihood = model.likelihood(code, condition)
    torch.testing.assert_close(likelihood, expected)
    # Linear in the code: the gradient of the bits is half the log-odds.
    bits(likelihood).sum().backward()
    torch.testing.assert_close(code.grad.flatten(1), -(torch.log(p / (1 - p)) / math.log(4)))


def test_rate_reaches_the_entropy_model_alone() -> None:
    codec = small_codec()
    bits(codec(*random_digits(8))["likelihoods"]["code"]).mean().backward()
    assert codec.f[0].weight.grad is None
    assert codec.prior.network[0].weight.grad is not None


@pytest.mark.parametrize("conditional", [True, False])
def test_a_set_costs_its_cross_entropy(conditional: bool) -> None:
    codec = small_codec(bits=1 if conditional else 4, conditional=conditional)
    labels = random_digits(10000)[1] if conditional else None
    condition = None if labels is None else codec.label.embed(labels)
    plus = torch.sigmoid(codec.prior.logits(condition)).detach().expand(10000, -1)
    code = (2 * torch.bernoulli(plus, generator=torch.Generator().manual_seed(1)) - 1)[:, :, None, None]
    data = codec.write(code, labels)
    expected = sum(bits(values).sum().item() for values in codec.likelihoods(code, labels).values())
    assert 0 < 8 * len(data) / expected - 1 < 0.01
    stored = codec.read(data)
    assert torch.equal(stored.code, code)
    assert labels is None or torch.equal(stored.label, labels)


def test_one_digit_round_trip_and_both_decoders() -> None:
    codec, (x, y) = with_g2(small_codec()), random_digits(1)
    data = codec.compress(x, y)
    assert len(data) == 21  # 13 bytes around the final state of the coder
    out = codec(x, y)
    mse, perceptual = codec.decompress(data, 0), codec.decompress(data, 1)
    torch.testing.assert_close(mse[:, :1], out["x_hat"], rtol=0, atol=0)
    assert torch.equal(codec.decompress(data), perceptual)  # the default, where g2 is there
    assert not torch.equal(mse, perceptual)
    torch.testing.assert_close(codec.decompress(data, 0.4), 0.6 * mse + 0.4 * perceptual)
    other = codec.decompress(data, 0, label=(int(y) + 1) % 10)
    torch.testing.assert_close(other[:, :1], codec.by_g1(codec.embedded(out["code"][:, :4], (y + 1) % 10), None))


def test_noise_is_a_function_of_the_file() -> None:
    codec, (x, y) = with_g2(small_codec()), random_digits(5)
    y = torch.arange(5)
    data = codec.compress(x, y)
    assert torch.equal(codec.decompress(data, 1), codec.decompress(data, 1))
    keys = codec.read(data).keys
    assert len(set(keys.tolist())) == 5
    assert set(keys.tolist()).isdisjoint(codec.read(codec.compress(x, y.flip(0))).keys.tolist())


def test_files_do_not_depend_on_g2() -> None:
    codec, (x, y) = small_codec(), random_digits(3)
    data = codec.compress(x, y)
    assert with_g2(codec).compress(x, y) == data
    with pytest.raises(ValueError, match=r"realism 0\.5 needs a perceptual decoder"):
        small_codec().decompress(data, 0.5)
    with pytest.raises(ValueError, match=r"realism 1.5 is outside"):
        codec.decompress(data, 1.5)


def test_damaged_files_are_named_errors() -> None:
    codec, (x, y) = small_codec(bits=8), random_digits(40)
    data = codec.compress(x, y)
    draw = random.Random(0)
    for _ in range(400):
        damaged = bytearray(data)
        if draw.random() < 0.5:
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            damaged = damaged[: draw.randrange(len(data))]
        with pytest.raises(BitstreamError):
            codec.read(bytes(damaged))
    with pytest.raises(TruncatedFileError):
        codec.read(data[:-5])


def test_a_forged_payload_behind_a_valid_checksum_is_a_mismatch() -> None:
    codec, (x, y) = small_codec(bits=8), random_digits(40)
    stream = Bitstream.from_bytes(codec.compress(x, y))
    payload = stream.payload[:8] + bytes(len(stream.payload) - 8)
    with pytest.raises(LatentMismatchError):
        codec.read(replace(stream, payload=payload).to_bytes())


def test_files_of_others_are_refused() -> None:
    codec, (x, y) = small_codec(), random_digits(2)
    data = codec.compress(x, y)
    with torch.no_grad():
        codec.g1[0].bias += 1e-3
    with pytest.raises(WrongWeightsError):
        codec.read(data)
    as_elic = bytearray(data)
    as_elic[2] = as_elic[2] & 0xF0 | 1
    as_elic[-2:] = _crc16(bytes(as_elic[:-2])).to_bytes(2, "big")
    with pytest.raises(WrongCodecError, match="written by codec elic"):
        codec.read(bytes(as_elic))


def test_arguments_that_cannot_be() -> None:
    codec, (x, y) = small_codec(), random_digits(2)
    with pytest.raises(ValueError, match=r"\(N, 1, 32, 32\), not \(2, 3, 32, 32\)"):
        codec.compress(x.expand(-1, 3, -1, -1), y)
    with pytest.raises(ValueError, match="label with each of the 2 digits"):
        codec.compress(x)
    with pytest.raises(ValueError, match=r"label 10 is not in 0..9"):
        codec.compress(x, torch.tensor([3, 10]))
    with pytest.raises(ValueError, match="has no labels"):
        codec.side_information({"image": x})
    with pytest.raises(ValueError, match=r"codec\.bits is 0"):
        DigitCodec(bits=0)


def test_noise_depends_on_its_key_alone() -> None:
    keys = torch.arange(4000) * 7919
    z = keyed_normal(keys, 50, 0)
    assert torch.equal(z[100:110], keyed_normal(keys[100:110], 50, 0))
    assert torch.equal(z[:, :20], keyed_normal(keys, 20, 0))
    assert not torch.equal(z, keyed_normal(keys, 50, 1))
    ordered = z.flatten().double().sort().values
    quantiles = torch.special.ndtr(ordered)
    uniform = (torch.arange(len(ordered)) + 0.5) / len(ordered)
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand times.
    assert (quantiles - uniform).abs().max() < 1.95 / math.sqrt(len(ordered))
    assert torch.corrcoef(z.T).fill_diagonal_(0).abs().max() < 0.09
    u = keyed_uniform(keys, 50, 0)
    assert u.min() > 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.005


def test_g2_starts_as_g1() -> None:
    g1, g2 = decoder("fig8", 8, 14), decoder("fig8", 8, 20)
    before = g2[0].weight[14:].clone()
    copy_decoder(g1, g2)
    read = torch.randn(3, 14, 1, 1)
    silent = torch.cat((read, torch.zeros(3, 6, 1, 1)), 1)
    torch.testing.assert_close(g1.eval()(read), g2.eval()(silent))
    assert torch.equal(before, g2[0].weight[14:])
    with pytest.raises(ValueError, match="start: random"):
        copy_decoder(g1, DigitCodec(bits=4, variant="yan", width=8).perceptual_decoder(6).network)
