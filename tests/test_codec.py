"""The codec: parameter counts, context model, tables, sizes, and the agreement of coding and evaluation."""

import json
from pathlib import Path

import pytest
import torch
from compressai.entropy_models import GaussianConditional
from torch.nn import functional as F
from transformers import CLIPTokenizer

from lightning_modules.codecs.cdf_tables import factorized_tables, gaussian_scales, gaussian_tables, scale_indexes
from lightning_modules.codecs.checkerboard import CheckerboardContext, pack, unpack
from lightning_modules.codecs.clip import ClipPart, load_clip
from lightning_modules.codecs.elic import ElicCodec
from lightning_modules.codecs.entropy import FactorizedPrior, GaussianLikelihood, uniform_noise
from lightning_modules.codecs.taco import TacoCodec, TextFeatures
from lightning_modules.codecs.text_encoder import ClipTextEncoder
from tests.conftest import SMALL


def small_codec() -> TacoCodec:
    torch.manual_seed(0)
    return TacoCodec(**SMALL, text_dim=64).eval()


def text(batch: int, seed: int = 1) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    return TextFeatures(torch.randn(batch, 38, 64, generator=generator), torch.randn(batch, 64, generator=generator))


def photograph(height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(batch, 3, max(1, height // 8), max(1, width // 8), generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bilinear")


def test_parameter_counts_are_the_papers() -> None:
    counts = TacoCodec().parameter_counts()
    assert counts["adapter"] == 1_646_848
    assert sum(counts.values()) - counts["adapter"] == 36_932_427
    assert sum(p.numel() for p in ElicCodec().parameters()) == 36_932_427
    model, tokenizer = load_clip(ClipPart(pretrained=False))
    encoder = ClipTextEncoder(model.text_model, tokenizer)
    assert sum(p.numel() for p in encoder.parameters()) == 63_165_952


def test_text_free_forward_is_the_backbone() -> None:
    codec, x = small_codec(), photograph(64, 128)
    backbone = ElicCodec(**SMALL).eval()
    state = {k: v for k, v in codec.state_dict().items() if not k.startswith("adapter.")}
    backbone.load_state_dict(state)
    ours, theirs = codec(x), backbone(x)
    assert torch.equal(ours["x_hat"], theirs["x_hat"])
    assert torch.equal(ours["likelihoods"]["y"], theirs["likelihoods"]["y"])


def test_caption_acts_only_once_gamma_is_free() -> None:
    codec, x = small_codec().train(), photograph(64, 64, batch=2)
    keys = torch.tensor([1, 2])
    with torch.no_grad():
        before = [codec(x, text(2, seed), keys) for seed in (1, 2)]
    assert torch.equal(before[0]["x_hat"], before[1]["x_hat"])
    assert torch.equal(before[0]["likelihoods"]["y"], before[1]["likelihoods"]["y"])
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-3)
    for step in range(20):
        out = codec(x, text(2), keys + step)
        loss = (out["x_hat"] - x).square().mean() - out["likelihoods"]["y"].log2().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = [codec(x, text(2, seed), keys)["likelihoods"]["y"] for seed in (1, 2)]
    assert (after[0] - after[1]).abs().max() > 1e-4


def test_padded_token_rows_are_keys_and_values() -> None:
    codec = small_codec()
    torch.nn.init.ones_(codec.adapter.inject_fine.gamma)
    features = text(1)
    changed = TextFeatures(features.tokens.clone(), features.pooled)
    changed.tokens[:, 37] += 1
    x = photograph(64, 64)
    assert not torch.equal(codec.analyse(x, features), codec.analyse(x, changed))


def test_checkerboard_halves() -> None:
    x = torch.randn(2, 5, 8, 12)
    anchors, nonanchors = pack(x)
    assert torch.equal(unpack(anchors, nonanchors), x)
    grid = unpack(torch.ones_like(anchors), torch.zeros_like(nonanchors))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij")
    assert torch.equal(grid, ((rows + columns) % 2).float()), "anchors are the odd cells"


def test_packed_context_is_the_full_grid_convolution() -> None:
    x = torch.randn(2, 5, 8, 12, dtype=torch.float64)
    context = CheckerboardContext(5, 7).double()
    anchors, nonanchors = pack(x)
    masked = unpack(anchors, torch.zeros_like(nonanchors))
    full = F.conv2d(masked, context.weight, context.bias, padding=2)
    torch.testing.assert_close(context(anchors), pack(full)[1], rtol=0, atol=1e-12)
    context(anchors).sum().backward()
    unused = torch.tensor([(dy + dx) % 2 == 0 for dy in range(5) for dx in range(5)]).view(5, 5)
    gradient = context.weight.grad
    assert gradient is not None
    assert bool((gradient[..., unused] == 0).all())
    assert bool((gradient[..., ~unused] != 0).all())


def test_gaussian_likelihood_is_compressais() -> None:
    y, scales, means = torch.randn(2, 3, 4, 4) * 3, torch.rand(2, 3, 4, 4) * 4, torch.randn(2, 3, 4, 4)
    reference = GaussianConditional(None).eval()
    expected = reference.likelihood_lower_bound(reference._likelihood(y, scales, means))
    torch.testing.assert_close(GaussianLikelihood()(y, scales, means), expected, rtol=1e-5, atol=1e-7)


def test_quantised_scales_cost_next_to_nothing() -> None:
    """Cross-entropy of the nearest table against the entropy of the true scale, over the whole range."""
    tables, likelihood = gaussian_tables(), GaussianLikelihood()
    for scale in torch.logspace(-0.69, 2.2, 60, dtype=torch.float64):  # 0.2 to 158
        index = int(scale_indexes(scale))
        symbols = torch.arange(len(tables.cdfs[index]) - 2, dtype=torch.float64) + tables.offsets[index]
        true = likelihood(symbols, scale.expand_as(symbols), torch.zeros_like(symbols))
        true = true / true.sum()
        coded = torch.tensor(tables.cdfs[index], dtype=torch.float64).diff()[:-1] / 2**16
        entropy, cost = -(true * true.log2()).sum(), -(true * coded.log2()).sum()
        assert cost < entropy * (1.0015 if scale < 30 else 1.005), float(scale)


def test_table_of_every_scale_index() -> None:
    scales = gaussian_scales()
    assert torch.equal(scale_indexes(scales), torch.arange(len(scales)))
    extremes = torch.tensor([-5.0, 0.0, 1e9, float("inf"), float("-inf"), float("nan")], dtype=torch.float64)
    indexes = scale_indexes(extremes)
    assert int(indexes.min()) >= 0
    assert int(indexes.max()) < len(scales)


def test_factorised_tables_follow_the_prior() -> None:
    torch.manual_seed(0)
    prior = FactorizedPrior(6).double()
    tables = factorized_tables(prior)
    for channel, (cdf, offset) in enumerate(zip(tables.cdfs, tables.offsets, strict=True)):
        symbols = torch.arange(len(cdf) - 2, dtype=torch.float64) + offset
        z = (symbols + prior.quantiles[channel, 0, 1]).view(1, 1, 1, -1).expand(1, 6, 1, -1)
        expected = prior.likelihood(z)[0, channel, 0]
        probability = torch.tensor(cdf, dtype=torch.float64).diff()[:-1] / 2**16
        torch.testing.assert_close(probability, expected, rtol=0, atol=3e-3)
        assert cdf[-1] == 2**16


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (63, 65), (64, 64), (97, 131)])
def test_any_size_round_trips_to_the_eval_forward(size: tuple[int, int]) -> None:
    codec, x = small_codec(), photograph(*size)
    x_hat = codec.decompress(codec.compress(x, text(1)))
    assert x_hat.shape == x.shape
    assert torch.equal(x_hat, codec(x, text(1))["x_hat"])


def test_tables_and_fingerprint_follow_the_weights_without_update() -> None:
    codec, x = small_codec(), photograph(64, 64)
    first, name = codec.compress(x), codec.fingerprint()
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-2, fused=True)
    (codec.prior.likelihood(torch.randn(1, 64, 1, 1)).sum() + codec.h_s(torch.ones(1, 64, 1, 1)).sum()).backward()
    optimizer.step()
    assert codec.fingerprint() != name
    second = codec.compress(x)
    assert second != first
    assert torch.equal(codec.decompress(second), codec(x)["x_hat"])
    codec.load_state_dict(small_codec().state_dict())
    assert codec.fingerprint() == name
    assert codec.compress(x) == first


def test_an_unchanged_codec_is_not_snapshot_again() -> None:
    codec = small_codec()
    assert codec.latent_coder() is codec.latent_coder()


def test_noise_is_a_function_of_the_key() -> None:
    shapes = [torch.Size((3, 4, 5)), torch.Size((3, 2))]
    device = torch.device("cpu")
    together = uniform_noise(shapes, torch.tensor([7, 8, 9]), device)
    alone = uniform_noise([torch.Size((1, *s[1:])) for s in shapes], torch.tensor([8]), device)
    for whole, part in zip(together, alone, strict=True):
        assert torch.equal(whole[1:2], part)
        assert -0.5 <= float(whole.min()) <= float(whole.max()) < 0.5
    state = torch.get_rng_state()
    uniform_noise(shapes, torch.tensor([7, 8, 9]), device)
    assert torch.equal(state, torch.get_rng_state())


def test_a_diverged_codec_says_so() -> None:
    codec = small_codec()
    torch.nn.init.constant_(codec.h_a[0].weight, float("nan"))
    with pytest.raises(ValueError, match="diverged"):
        codec.compress(photograph(64, 64))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="add up to M=96"):
        ElicCodec(N=64, M=96, slices=[8, 8])
    with pytest.raises(ValueError, match="heads=8"):
        TacoCodec(N=20, M=40, text_dim=64)
    with pytest.raises(ValueError, match="one image"):
        small_codec().compress(photograph(64, 64, batch=2))


def test_tokeniser_is_hugging_faces(data_root: Path) -> None:
    reference = CLIPTokenizer.from_pretrained(data_root / "clip_vocab")
    model, _ = load_clip(ClipPart(pretrained=False))
    encoder = ClipTextEncoder(model.text_model, reference)
    captions = list(json.loads((data_root / "captions" / "clic_ofa.json").read_text()).values())
    annotations = json.loads((data_root / "coco_mini/annotations/captions_val2017.json").read_text())["annotations"]
    captions += [a["caption"] for a in annotations]
    captions += ["", "  two  spaces\n", "ÜBER café 你好 🙂", "word " * 100, "it's <|endoftext|> here"]
    ids, mask = encoder.tokenize(captions)
    expected = reference(captions, padding="max_length", max_length=38, truncation=True)
    assert ids.tolist() == expected["input_ids"]
    assert mask.tolist() == expected["attention_mask"]
    assert int(ids[0, 0]) == 49406
    assert int(ids[0, -1]) == 49407


def test_text_encoder_needs_one_pass_and_rebuilds_from_its_config() -> None:
    model, tokenizer = load_clip(ClipPart(pretrained=False, architecture="tiny"))
    encoder = ClipTextEncoder(model.text_model, tokenizer).train()
    assert not any(module.training for module in encoder.modules())
    features = encoder(["a red door", "a cat"])
    assert features.tokens.shape == (2, 38, 64)
    ids, mask = encoder.tokenize(["a red door", "a cat"])
    pooled = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(model.text_projection(features.pooled), pooled)
    again = ClipTextEncoder.from_config(encoder.config())
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(["a red door", "a cat"]).tokens, features.tokens)
