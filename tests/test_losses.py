"""The losses against independent computations."""

import math
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel

from lightning_modules.codecs.clip import ClipPart, load_clip
from lightning_modules.codecs.text_encoder import ClipTextEncoder
from lightning_modules.errors import PretrainedError
from lightning_modules.losses.joint_image_text import AUTHORS_TEMPERATURE, JointImageTextLoss, JointLossPart
from lightning_modules.losses.perceptual import LpipsLoss, LpipsPart
from lightning_modules.losses.rate_distortion import bits_per_pixel, squared_error_255


@pytest.fixture(scope="module")
def clip() -> tuple[CLIPModel, ClipTextEncoder]:
    model, tokenizer = load_clip(ClipPart(pretrained=False, architecture="tiny"))
    return model, ClipTextEncoder(model.text_model, tokenizer)


def pictures(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.rand(batch, 3, 224, 224)
    return x, (x + 0.2 * torch.randn_like(x)).clamp(0, 1)


def test_rate_and_distortion() -> None:
    likelihoods = {"y": torch.full((2, 3, 4, 4), 0.25), "z": torch.full((2, 1, 2, 2), 0.5)}
    rates = bits_per_pixel(likelihoods, pixels=64 * 64)
    assert float(rates["y"]) == pytest.approx(2 * 48 / 4096)
    assert float(rates["z"]) == pytest.approx(4 / 4096)
    assert float(squared_error_255(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 1 / 255))) == pytest.approx(1)


def test_joint_loss_is_clips_own(clip: tuple[CLIPModel, ClipTextEncoder]) -> None:
    """At CLIP's input size nothing is resized, and transformers computes the same contrastive loss."""
    model, encoder = clip
    x, x_hat = pictures()
    captions = ["a red door", "two cats on a sofa", "a boat"]
    loss = JointImageTextLoss(model, JointLossPart())
    terms = loss(x, x_hat, encoder(captions).pooled)
    ids, mask = encoder.tokenize(captions)
    normalised = (x_hat - loss.mean) / loss.std
    reference = model(input_ids=ids, attention_mask=mask, pixel_values=normalised, return_loss=True)
    torch.testing.assert_close(terms.contrastive, reference.loss, rtol=1e-4, atol=1e-5)
    original = model(input_ids=ids, attention_mask=mask, pixel_values=(x - loss.mean) / loss.std)
    distance = (original.image_embeds - reference.image_embeds).norm(dim=-1).mean()
    torch.testing.assert_close(terms.distance, distance, rtol=1e-4, atol=1e-5)


def test_joint_loss_options(clip: tuple[CLIPModel, ClipTextEncoder]) -> None:
    model, encoder = clip
    x, x_hat = pictures(4)
    pooled = encoder(["a", "b", "c", "d"]).pooled
    mean = JointImageTextLoss(model, JointLossPart())(x, x_hat, pooled).distance
    norm = JointImageTextLoss(model, JointLossPart(distance="batch_frobenius"))(x, x_hat, pooled).distance
    assert float(norm / mean) == pytest.approx(2, rel=0.1), "√B at B = 4"
    assert JointImageTextLoss(model, JointLossPart(temperature="authors")).temperature == AUTHORS_TEMPERATURE
    assert JointImageTextLoss(model, JointLossPart(temperature=7)).temperature == 7
    trained = JointImageTextLoss(model, JointLossPart()).temperature
    assert trained == pytest.approx(math.exp(float(model.logit_scale)))
    wide = torch.nn.functional.interpolate(x, size=(256, 320))
    for resize in ("bilinear", "bicubic"):
        embedded = JointImageTextLoss(model, JointLossPart(resize=resize)).embed_image(wide)
        torch.testing.assert_close(embedded.norm(dim=-1), torch.ones(4))


def test_joint_loss_reaches_the_reconstruction_and_nothing_frozen(clip: tuple[CLIPModel, ClipTextEncoder]) -> None:
    model, encoder = clip
    x, x_hat = pictures()
    x_hat.requires_grad_()
    loss = JointImageTextLoss(model, JointLossPart()).train()
    assert not loss.vision_model.training
    terms = loss(x, x_hat, encoder(["a", "b", "c"]).pooled)
    (terms.contrastive + terms.distance).backward()
    assert x_hat.grad is not None
    assert float(x_hat.grad.abs().sum()) > 0
    assert all(p.grad is None for p in model.parameters())
    one = loss(x[:1], x_hat[:1].detach(), encoder(["a"]).pooled)
    assert float(one.contrastive) == pytest.approx(0, abs=1e-6), "one pair has nothing to be told from"


def test_lpips_input_range(alexnet: str) -> None:
    x, x_hat = pictures()
    usual = LpipsLoss(LpipsPart(pretrained=alexnet))(x, x_hat)
    authors = LpipsLoss(LpipsPart(pretrained=alexnet, input_range="[0,1]"))(x, x_hat)
    direct = LpipsLoss(LpipsPart(pretrained=alexnet)).network(2 * x - 1, 2 * x_hat - 1).mean()
    torch.testing.assert_close(usual, direct)
    assert float(authors) < float(usual)


def test_missing_pretrained_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PretrainedError, match=r"clip\.pretrained"):
        load_clip(ClipPart(pretrained="./no/such/folder"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PretrainedError, match=r"lacks model\.safetensors, vocab\.json"):
        load_clip(ClipPart(pretrained=str(tmp_path)))
    with pytest.raises(PretrainedError, match=r"lpips\.pretrained"):
        LpipsLoss(LpipsPart(pretrained=str(tmp_path / "none.pth")))


def test_clip_loads_from_a_folder(tmp_path: Path, data_root: Path) -> None:
    """The layout of the hub, with the real vocabulary and a small random network."""
    from transformers import CLIPConfig, CLIPTokenizer

    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    CLIPModel(CLIPConfig(text_config=tower, vision_config=tower, projection_dim=64)).save_pretrained(tmp_path)
    CLIPTokenizer.from_pretrained(data_root / "clip_vocab").save_pretrained(tmp_path)
    model, tokenizer = load_clip(ClipPart(pretrained=str(tmp_path)))
    encoder = ClipTextEncoder(model.text_model, tokenizer)
    assert encoder.tokenize(["a photo of a cat"])[0][0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert not any(p.requires_grad for p in model.parameters())
