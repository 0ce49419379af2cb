"""The OASIS discriminator and its critic: against loops over pixels and a plainly written U-Net."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.street_classes import TABLES
from lightning_modules.codecs.oasis_discriminator import OasisDiscriminator
from lightning_modules.critics.oasis import OasisCritic
from lightning_modules.errors import SettingError
from tests.critic_helpers import (
    codec_with,
    critic_batch,
    one_loss,
    part_of,
    read_of,
    slow_mean,
    slow_weights,
)

# -- network --------------------------------------------------------------------------------------------------------


def slow_discriminator(network: OasisDiscriminator, picture: Tensor) -> Tensor:
    """A U-Net as one would draw it: shortcuts at full size, halving and doubling where the block says so."""

    def convolved(layer: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def block(layers: Any, x: Tensor, up: bool, first: bool) -> Tensor:
        if up:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        main = convolved(layers.conv_1, leaky(convolved(layers.conv_0, x if first else leaky(x))))
        whole = main + (x if isinstance(layers.shortcut, nn.Identity) else convolved(layers.shortcut, x))
        if up:
            return whole
        corners = [whole[:, :, i::2, j::2] for i in range(2) for j in range(2)]
        return (corners[0] + corners[1] + corners[2] + corners[3]) / 4

    at = {}
    x = picture
    for i in range(6):
        x = at[i] = block(network.down[i], x, up=False, first=i == 0)
    x = block(network.up[0], at[5], up=True, first=False)
    for i in range(1, 6):
        x = block(network.up[i], torch.cat((x, at[5 - i]), 1), up=True, first=False)
    return convolved(network.last, x)


@pytest.mark.parametrize("condition", [0, 3])
def test_discriminator_is_a_u_net_of_residual_blocks(condition: int) -> None:
    torch.manual_seed(0)
    network = OasisDiscriminator(4, 4, condition).double().eval()
    picture = torch.rand(2, 3 + condition, 64, 128, dtype=torch.float64) - 0.2
    logits = network(picture[:, :3], picture[:, 3:] if condition else None)
    assert logits.shape == (2, 5, 64, 128)
    torch.testing.assert_close(logits, slow_discriminator(network, picture))


def test_discriminator_has_the_published_channels() -> None:
    network = OasisDiscriminator(34)
    assert [b.conv_0.weight.shape[:2] for b in network.down] == [
        (128, 3), (128, 128), (256, 128), (256, 256), (512, 256), (512, 512),
    ]  # fmt: skip
    assert [b.conv_0.weight.shape[:2] for b in network.up] == [
        (512, 512), (256, 1024), (256, 512), (128, 512), (128, 256), (64, 256),
    ]  # fmt: skip
    assert network.last.weight.shape == (35, 64, 1, 1)
    assert OasisDiscriminator(34, condition_channels=3).down[0].conv_0.weight.shape[1] == 6


def test_discriminator_refuses_what_does_not_fit() -> None:
    network = OasisDiscriminator(4, 4)
    with pytest.raises(ValueError, match=r"multiples of 64, not 96x64: set data.size"):
        network(torch.rand(1, 3, 64, 96))
    with pytest.raises(ValueError, match="0 channels beside"):
        network(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="width is 5"):
        OasisDiscriminator(4, 5)


# -- critic ---------------------------------------------------------------------------------------------------------


class Seen:
    """What the network was shown and answered."""

    def __init__(self, network: nn.Module) -> None:
        self.pictures, self.conditions, self.logits = [], [], []  # type: ignore[var-annotated]
        network.register_forward_hook(self.note)

    def note(self, network: nn.Module, shown: Any, logits: Tensor) -> None:
        self.pictures.append(shown[0].detach())
        self.conditions.append(shown[1])
        self.logits.append(logits.detach())


@pytest.mark.parametrize("condition", ["none", "xhat"])
@pytest.mark.parametrize(("classes", "ignored"), [(0, None), (11, None), (19, 3), (34, None)])
def test_losses_of_both_sides(classes: int, ignored: int | None, condition: Any) -> None:
    torch.manual_seed(0)
    critic = OasisCritic(2, 5.0, condition, ignored)
    network = critic.network(codec_with(classes)).eval()
    batch = critic_batch(2, classes)
    labels = batch.read[:, 3:].argmax(1) if classes else torch.zeros(2, 64, 64, dtype=torch.int64)
    weights = slow_weights(labels, max(classes, 1), ignored)
    assert not classes or len(set(weights)) > 2

    def judged(picture: Tensor) -> Tensor:
        return network(picture, batch.read[:, :3] if condition == "xhat" else None).detach()

    seen = Seen(network)
    loss, figures = one_loss(critic, network, batch)
    real, fake = judged(batch.real), judged(batch.fake)
    expected = {"critic_real": slow_mean(real, labels, weights), "critic_fake": slow_mean(fake, None, None)}
    total = expected["critic_real"] + expected["critic_fake"]
    if classes:
        mixed = seen.pictures[0][4:]
        mask = (mixed == batch.real).all(1)
        for b in range(2):
            for c in range(classes):  # whole classes come from one side
                assert mask[b][labels[b] == c].float().unique().numel() <= 1
        assert torch.equal(mixed, torch.where(mask[:, None], batch.real, batch.fake))
        distance = judged(mixed) - torch.where(mask[:, None], real, fake)
        expected["label_mix"] = float(distance.square().mean())
        total += 5.0 * expected["label_mix"]
    assert {k: v.item() for k, v in figures.items()} == pytest.approx({**expected, "critic_loss": total}, rel=1e-4)
    assert loss.item() == pytest.approx(total, rel=1e-4)
    ours = critic.decoder_loss(network, batch.fake, batch.read)
    assert float(ours) == pytest.approx(slow_mean(fake, labels, weights), rel=1e-4)


def test_masks_depend_on_each_images_key_and_purpose_alone() -> None:
    torch.manual_seed(0)
    critic = OasisCritic(2)
    network = critic.network(codec_with(12))
    batch = critic_batch(4, 12)
    seen = Seen(network)
    for part in (batch, part_of(batch, slice(0, 2)), part_of(batch, slice(2, 4)), batch._replace(purpose=6)):
        one_loss(critic, network, part)
    whole, first, second, other = seen.pictures
    assert torch.equal(whole[8:], torch.cat((first[4:], second[4:])))
    assert not torch.equal(whole[8:], other[8:])
    torch.rand(3)
    one_loss(critic, network, batch)
    assert torch.equal(whole, seen.pictures[-1])


def test_masks_take_half_of_the_classes() -> None:
    torch.manual_seed(0)
    critic = OasisCritic(2)
    network = critic.network(codec_with(12))
    batch = critic_batch(16, 12)
    seen = Seen(network)
    one_loss(critic, network, batch)
    from_real = (seen.pictures[0][32:] == batch.real).all(1).float().mean((1, 2))
    assert 0.35 < float(from_real.mean()) < 0.65
    assert from_real.unique().numel() > 8


def test_weight_0_leaves_label_mix_out() -> None:
    critic = OasisCritic(2, label_mix=0.0)
    network = critic.network(codec_with(4))
    seen = Seen(network)
    _, figures = one_loss(critic, network, critic_batch(2, 4))
    assert "label_mix" not in figures and len(seen.pictures[0]) == 4


def test_discriminator_learns_and_its_gradient_improves_fakes() -> None:
    torch.manual_seed(0)
    critic = OasisCritic(4)
    network = critic.network(codec_with(3))
    batch = critic_batch(2, 3)
    labels = batch.read[:, 3:].argmax(1)
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
    batch = batch._replace(real=colours[labels].movedim(3, 1), fake=torch.full_like(batch.fake, 0.5))
    optimizer = torch.optim.Adam(network.parameters(), 4e-3, (0.0, 0.999))
    history = []
    for _ in range(25):
        loss, figures = one_loss(critic, network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((figures["critic_real"] + figures["critic_fake"]).item())
    # Who does not look at the picture reaches no less than this, by half "fake" and a sixth for each class.
    assert history[-1] < 0.9 * (math.log(2) + math.log(6))
    fake = batch.fake.clone().requires_grad_()
    losses = []
    for _ in range(10):
        loss = critic.decoder_loss(network.eval(), fake, batch.read)
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, fake)
        with torch.no_grad():
            fake -= 0.02 * gradient.sign()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 7}, "critic.width is 7"),
        ({"width": 0}, "critic.width is 0"),
        ({"label_mix": -1}, "critic.label_mix is -1"),
        ({"label_mix": float("nan")}, "critic.label_mix is nan"),
        ({"disc_condition": "x_hat"}, "critic.disc_condition is 'x_hat'"),
        ({"ignored_class": -1}, "critic.ignored_class is -1"),
        ({"balance_limit": 0.5}, "critic.balance_limit is 0.5"),
    ],
)
def test_refuses_settings_out_of_range(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OasisCritic(**settings)


def test_refuses_codecs_it_does_not_fit() -> None:
    with pytest.raises(SettingError, match=r"critic.ignored_class is 11, but the codec has classes 0 to 10"):
        OasisCritic(ignored_class=11).network(codec_with(11))
    # The unconditional codec of a pair trains by the same settings as the conditional one.
    assert OasisCritic(2, ignored_class=11).network(codec_with(0)).classes == 1


@pytest.mark.parametrize("table", list(TABLES))
def test_refuses_to_ignore_a_class_that_is_evaluated(table: str) -> None:
    """The number of void differs from table to table: 11 is CamVid's, and Cityscapes' building."""
    classes = TABLES[table]
    for symbol in range(len(classes)):
        critic = OasisCritic(ignored_class=symbol)
        if symbol in classes.ignored:
            critic.check_classes(classes)
        else:
            name = classes.names[symbol]
            with pytest.raises(SettingError, match=rf"ignored_class is {symbol}, {name} in .* {table}"):
                critic.check_classes(classes)
    OasisCritic(ignored_class=None).check_classes(classes)
    with pytest.raises(SettingError, match="ignored_class is 34, no class in"):
        OasisCritic(ignored_class=34).check_classes(classes)


def test_details_are_its_name_and_settings() -> None:
    settings: dict[str, Any] = {
        **{"width": 16, "label_mix": 2.0, "disc_condition": "xhat"},
        **{"ignored_class": 3, "balance_limit": 5.0},
    }
    assert OasisCritic(**settings).details() == {"critic": "oasis", **settings}


def test_balance_limit_bounds_the_weights_of_rare_classes() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, :8, :8] = 1  # weighs 8192 / (2 * 64) = 64, class 0 half
    batch = critic_batch(2, 2)._replace(read=read_of(labels, 2))
    network = OasisCritic(4).network(codec_with(2)).eval()
    logits = network(batch.fake.float(), None)
    each = nn.functional.cross_entropy(logits, labels + 1, reduction="none")
    for limit, weight in ((None, 64.0), (5.0, 5.0)):
        expected = (each * torch.where(labels == 1, weight, 8192 / (2 * 8128))).mean()
        found = OasisCritic(4, balance_limit=limit).decoder_loss(network, batch.fake, batch.read)
        torch.testing.assert_close(found, expected)
