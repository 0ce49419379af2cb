"""The HiFiC-like critic: against the GAN loss written out, and what stage 2 relies on."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.critics.patch import PatchCritic, PatchDiscriminator
from tests.critic_helpers import codec_with, critic_batch, one_loss


def probabilities(logits: Tensor) -> list[float]:
    return [1 / (1 + math.exp(-float(v))) for v in logits.flatten()]


@pytest.mark.parametrize("classes", [0, 11, 19, 34])
def test_losses_of_both_sides_are_the_non_saturating_gans(classes: int) -> None:
    torch.manual_seed(0)
    critic = PatchCritic(4)
    network = critic.network(codec_with(classes)).eval()
    batch = critic_batch(2, classes, 64, 128)
    real, fake = (network(picture, batch.read) for picture in (batch.real, batch.fake))
    assert real.shape == (2, 1, 8, 16)
    on_real = [-math.log(p) for p in probabilities(real)]
    on_fake = [-math.log(1 - p) for p in probabilities(fake)]
    expected = {"critic_real": sum(on_real) / len(on_real), "critic_fake": sum(on_fake) / len(on_fake)}
    loss, figures = one_loss(critic, network, batch)
    expected["critic_loss"] = expected["critic_real"] + expected["critic_fake"]
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss) == float(figures["critic_loss"])
    of_g2 = [-math.log(p) for p in probabilities(fake)]
    assert float(critic.decoder_loss(network, batch.fake, batch.read)) == pytest.approx(sum(of_g2) / len(of_g2))


def test_discriminator_has_the_published_layers_for_34_classes() -> None:
    network = PatchCritic().network(codec_with(34))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (64, 40, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4),
    ]  # fmt: skip
    assert [layer.stride[0] for layer in layers] == [2, 2, 2, 1, 1]


def test_a_logit_judges_70_by_70_pixels() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 4).double().eval()
    picture = torch.rand(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = network(picture, torch.rand(1, 3, 128, 128, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], picture)
    rows = gradient[0].abs().sum((0, 2)).nonzero()
    columns = gradient[0].abs().sum((0, 1)).nonzero()
    assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 69


def test_judgement_depends_on_x_hat_and_on_labels() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(4)
    network = critic.network(codec_with(5)).eval()
    batch = critic_batch(2, 5)
    judged = network(batch.real, batch.read)
    for changed in (
        torch.cat((batch.read[:, :3].flip(0), batch.read[:, 3:]), 1),
        torch.cat((batch.read[:, :3], batch.read[:, 3:].flip(0)), 1),
    ):
        assert not torch.allclose(network(batch.real, changed), judged, atol=1e-4)


def test_discriminator_learns() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(8)
    network = critic.network(codec_with(3))
    batch = critic_batch(4, 3)
    batch = batch._replace(real=(batch.read[:, :3] + 0.3 * torch.randn(4, 3, 64, 64)), fake=batch.read[:, :3])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    history = []
    for _ in range(40):
        loss, _ = one_loss(critic, network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[0] == pytest.approx(2 * math.log(2), abs=0.3)
    assert history[-1] < 0.6 * history[0]


def test_settings_and_details() -> None:
    assert PatchCritic(32).details() == {"critic": "patch", "width": 32}
    with pytest.raises(ValueError, match=r"critic\.width is 0"):
        PatchCritic(0)
