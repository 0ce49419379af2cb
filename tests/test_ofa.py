"""OFA's network against its formulas, its published names and sizes; its beam search against a slow one."""

from dataclasses import replace

import pytest
import torch

from callbacks.captioners import CaptionError
from callbacks.captioners.ofa import OfaConfig, OfaModel
from callbacks.captioners.ofa.encoder import Source
from callbacks.captioners.ofa.generate import beam_search
from callbacks.captioners.ofa.positions import text_buckets
from tests.ofa_helpers import PlainOfa, plain_beam_search, random_model, text_bucket

PUBLISHED = {
    # width, encoder and decoder layers, heads, stem, parameters in millions, parameters
    "tiny": (256, 4, 4, 4, "resnet50", 33, 33_488_336),
    "medium": (512, 4, 4, 8, "resnet101", 93, 92_892_000),
    "base": (768, 6, 6, 12, "resnet101", 182, 182_238_536),
    "large": (1024, 12, 12, 16, "resnet152", 473, 472_977_152),
    "huge": (1280, 24, 12, 16, "resnet152", 929, 929_486_848),
}
STAGES = {"resnet50": (3, 4, 6), "resnet101": (3, 4, 23), "resnet152": (3, 8, 36)}


def published_shapes(d: int, encoder: int, decoder: int, heads: int, stem: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published weights, as their authors' code makes them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    def batch_norm(name: str, size: int) -> None:
        norm(name, size)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (size,)
        shapes[f"{name}.num_batches_tracked"] = ()

    images = "encoder.embed_images"
    shapes[f"{images}.conv1.weight"] = (64, 3, 7, 7)
    batch_norm(f"{images}.bn1", 64)
    inputs = 64
    for stage, (blocks, inner) in enumerate(zip(STAGES[stem], (64, 128, 256), strict=True), start=1):
        for block in range(blocks):
            name = f"{images}.layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = (inner, inputs, 1, 1)
            shapes[f"{name}.conv2.weight"] = (inner, inner, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * inner, inner, 1, 1)
            for number, size in ((1, inner), (2, inner), (3, 4 * inner)):
                batch_norm(f"{name}.bn{number}", size)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * inner, inputs, 1, 1)
                batch_norm(f"{name}.downsample.1", 4 * inner)
            inputs = 4 * inner
    linear("encoder.image_proj", d, 1024)
    shapes["encoder.type_embedding.weight"] = (2, d)
    norm("encoder.patch_layernorm_embedding", d)
    norm("decoder.code_layernorm_embedding", d)
    for name in ("encoder.pos_q_linear", "encoder.pos_k_linear"):
        linear(name, d, d)
    for name in ("self_pos_q_linear", "self_pos_k_linear", "cross_pos_q_linear", "cross_pos_k_linear"):
        linear(f"decoder.{name}", d, d)
    for half, layers in (("encoder", encoder), ("decoder", decoder)):
        shapes[f"{half}.embed_tokens.weight"] = (59457, d)
        shapes[f"{half}.embed_positions.weight"] = (1026, d)
        shapes[f"{half}.embed_image_positions.weight"] = (1765, d)
        for name in ("layernorm_embedding", "pos_ln", "image_pos_ln", "layer_norm"):
            norm(f"{half}.{name}", d)
        for i in range(layers):
            layer = f"{half}.layers.{i}"
            shapes[f"{half}.token_rel_pos_table_list.{i}.weight"] = (511, heads)
            shapes[f"{half}.image_rel_pos_table_list.{i}.weight"] = (6892, heads)
            for attention in ("self_attn",) if half == "encoder" else ("self_attn", "cross_attn"):
                for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{layer}.{attention}.{name}", d, d)
                shapes[f"{layer}.{attention}.c_attn"] = (heads,)
                norm(f"{layer}.{attention}_layer_norm", d)
                norm(f"{layer}.{attention}_mid_layer_norm", d)
            linear(f"{layer}.fc1", 4 * d, d)
            linear(f"{layer}.fc2", d, 4 * d)
            norm(f"{layer}.ffn_layer_norm", 4 * d)
            norm(f"{layer}.final_layer_norm", d)
    return shapes


@pytest.mark.parametrize("size", PUBLISHED)
def test_names_shapes_and_number_of_parameters(size: str) -> None:
    d, encoder, decoder, heads, stem, millions, parameters = PUBLISHED[size]
    config = OfaConfig(d, encoder, decoder, heads, heads, 4 * d, 4 * d, stem)
    with torch.device("meta"):
        model = OfaModel(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == published_shapes(d, encoder, decoder, heads, stem)
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == parameters
    assert round(found / 1e6) == millions


def test_text_buckets_one_by_one() -> None:
    buckets = text_buckets(1024, 256)
    for i, j in [(0, 0), (5, 9), (200, 72), (200, 71), (0, 129), (1000, 3), (3, 1000), (1023, 0), (0, 1023)]:
        assert int(buckets[i, j]) == text_bucket(i - j, 256), (i, j)
    assert int(buckets.min()) >= 0 and int(buckets.max()) <= 510


PROMPT = torch.tensor([[0, 7, 9, 30, 12, 2]])


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> OfaModel:
    return random_model().double()


@pytest.fixture(scope="module")
def talkative() -> list[OfaModel]:
    """Random models rarely stop of their own accord; these do, at different lengths."""
    models = [random_model(seed=seed).double() for seed in range(2)]
    for model in models:
        model.encoder.embed_tokens.weight.data[2] *= 2
    return models


@torch.inference_mode()
def test_network_equals_its_formulas(model: OfaModel, images: torch.Tensor) -> None:
    plain, x = PlainOfa(model), images.double()
    source = model.encoder(x, PROMPT.expand(3, -1))
    sentences = torch.randint(4, 40, (3, 2, 7), generator=torch.Generator().manual_seed(2))
    logits = model.decoder(sentences, model.decoder.begin(source, 9))
    features = model.encoder.embed_images(x)
    assert features.shape == (3, 1024, 4, 3)
    for image in range(3):
        states, positions = plain.encode(features[image], PROMPT[0])
        torch.testing.assert_close(source.states[image], states, rtol=1e-9, atol=1e-9)
        for sentence in range(2):
            expected = plain.decode(states, positions, sentences[image, sentence])
            torch.testing.assert_close(logits[image, sentence], expected, rtol=1e-9, atol=1e-9)


@torch.inference_mode()
def test_stem_is_a_resnet_without_its_last_stage(model: OfaModel, images: torch.Tensor) -> None:
    """Block by block with torch's functions, batch norms as scale and shift."""
    w = {name.removeprefix("encoder.embed_images."): v for name, v in model.state_dict().items()}

    def convolve(x: torch.Tensor, conv: str, bn: str, stride: int = 1) -> torch.Tensor:
        kernel = w[f"{conv}.weight"]
        scale = w[f"{bn}.weight"] / (w[f"{bn}.running_var"] + 1e-5).sqrt()
        shift = w[f"{bn}.bias"] - w[f"{bn}.running_mean"] * scale
        return torch.conv2d(x, kernel * scale[:, None, None, None], shift, stride, kernel.shape[-1] // 2)

    x = torch.max_pool2d(convolve(images.double(), "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage in (1, 2, 3):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = convolve(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = convolve(y, f"{name}.conv2", f"{name}.bn2", stride).relu()
            y = convolve(y, f"{name}.conv3", f"{name}.bn3")
            x = convolve(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if block == 0 else x
            x = (x + y).relu()
    torch.testing.assert_close(model.encoder.embed_images(images.double()), x)


@torch.inference_mode()
def test_token_by_token_equals_whole_sentences(model: OfaModel, images: torch.Tensor) -> None:
    source = model.encoder(images.double(), PROMPT.expand(3, -1))
    sentences = torch.randint(4, 40, (3, 4, 8), generator=torch.Generator().manual_seed(3))
    whole = model.decoder(sentences, model.decoder.begin(source, 8))
    progress = model.decoder.begin(source, 12)
    parts = [model.decoder(sentences[:, :, i : i + 1], progress) for i in range(8)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole)


@torch.inference_mode()
def test_sentences_can_be_dropped_and_doubled(model: OfaModel, images: torch.Tensor) -> None:
    source = model.encoder(images.double(), PROMPT.expand(3, -1))
    sentences = torch.randint(4, 40, (3, 2, 5), generator=torch.Generator().manual_seed(4))
    choice = torch.tensor([[0, 0, 1], [1, 0, 1], [1, 1, 1]])
    chosen = torch.stack([sentences[image, choice[image]] for image in range(3)])
    progress = model.decoder.begin(source, 5)
    model.decoder(sentences[:, :, :4], progress)
    progress.select(choice)
    last = model.decoder(chosen[:, :, 4:], progress)
    torch.testing.assert_close(last, model.decoder(chosen, model.decoder.begin(source, 5))[:, :, 4:])


@torch.inference_mode()
def test_padded_prompts_change_nothing(model: OfaModel, images: torch.Tensor) -> None:
    short = torch.tensor([[0, 7, 2, 1, 1, 1]])
    prompts = torch.cat([PROMPT, short, PROMPT])
    sentences = torch.randint(4, 40, (3, 2, 5), generator=torch.Generator().manual_seed(5))
    source = model.encoder(images.double(), prompts)
    logits = model.decoder(sentences, model.decoder.begin(source, 5))
    for image, prompt in enumerate([PROMPT, short[:, :3], PROMPT]):
        one = model.encoder(images[image : image + 1].double(), prompt)
        kept = 12 + prompt.shape[1]
        torch.testing.assert_close(source.states[image, :kept], one.states[0])
        expected = model.decoder(sentences[image : image + 1], model.decoder.begin(one, 5))
        torch.testing.assert_close(logits[image : image + 1], expected)


@torch.inference_mode()
@pytest.mark.parametrize(("beams", "longest", "ngram"), [(5, 8, 3), (3, 6, 2), (1, 8, 0), (2, 1, 1), (4, 9, 1)])
def test_beam_search_equals_a_plain_one(
    talkative: list[OfaModel], images: torch.Tensor, beams: int, longest: int, ngram: int
) -> None:
    lengths = set()
    for model in talkative:
        source = model.encoder(images.double(), PROMPT.expand(3, -1))
        expected = [plain_beam_search(model, source, image, beams, longest, ngram) for image in range(3)]
        assert beam_search(model.decoder, source, beams, longest, ngram) == expected
        lengths |= {len(sentence) for sentence in expected}
        for sentence in expected:
            grams = [tuple([0, *sentence][i : i + ngram]) for i in range(len(sentence) + 2 - ngram)]
            assert ngram == 0 or len(set(grams)) == len(grams)
    assert len(lengths) > 1 or longest == 1


@torch.inference_mode()
def test_a_batch_says_what_each_image_says(images: torch.Tensor) -> None:
    model = random_model(seed=1)
    together = beam_search(model.decoder, model.encoder(images, PROMPT.expand(3, -1)))
    alone = [beam_search(model.decoder, model.encoder(image[None], PROMPT))[0] for image in images]
    assert together == alone
    assert len({tuple(sentence) for sentence in together}) > 1


def test_damaged_weights_are_an_error(images: torch.Tensor) -> None:
    model = random_model()
    source = model.encoder(images, PROMPT.expand(3, -1))
    damaged = Source(source.states * torch.nan, source.positions, source.mask)
    with torch.inference_mode(), pytest.raises(CaptionError, match="damaged"):
        beam_search(model.decoder, damaged)


def test_configs_that_are_not_ofa() -> None:
    assert OfaConfig.from_dict({"model_type": "ofa", "d_model": 256, "dropout": 0.1}) == replace(
        OfaConfig(), d_model=256
    )
    for content, problem in [
        ({"model_type": "blip"}, "model_type 'blip'"),
        ({"entangle_position_embedding": True}, "entangle_position_embedding True"),
        ({"resnet_type": "resnet200"}, "resnet200"),
        ({"d_model": 250}, "250 is no multiple of 8"),
    ]:
        with pytest.raises(ValueError, match=problem):
            OfaConfig.from_dict(content)
