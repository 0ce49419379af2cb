"""What stage 2 relies on in every critic of street scenes."""

import pytest
import torch
from torch import nn

from lightning_modules.critics.base import Critic
from lightning_modules.critics.oasis import OasisCritic
from lightning_modules.critics.patch import PatchCritic
from lightning_modules.errors import SettingError
from tests.critic_helpers import codec_with, convolutions, critic_batch, one_loss, spectral_norms

CRITICS = {
    "oasis": OasisCritic(4),
    "oasis beside x_hat": OasisCritic(4, disc_condition="xhat"),
    "patch": PatchCritic(4),
}
every_critic = pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS)


@every_critic
def test_gradients_reach_what_they_should(critic: Critic) -> None:
    torch.manual_seed(0)
    network = critic.network(codec_with(5))
    batch = critic_batch(2, 5)
    loss, _ = one_loss(critic, network, batch)
    assert all(bool(g.any()) for g in torch.autograd.grad(loss, list(network.parameters())))
    network.requires_grad_(False)
    fake = batch.fake.clone().requires_grad_()
    (of_fake,) = torch.autograd.grad(critic.decoder_loss(network, fake, batch.read), fake)
    assert bool((of_fake.abs().sum(1) > 0).all())
    assert all(p.grad is None for p in network.parameters())


@every_critic
def test_losses_are_float32_under_autocast_and_leave_it_as_it_was(critic: Critic) -> None:
    torch.manual_seed(0)
    network = critic.network(codec_with(5)).eval()
    batch = critic_batch(2, 5)
    expected, _ = one_loss(critic, network, batch)
    wanted = critic.decoder_loss(network, batch.fake, batch.read)
    with torch.autocast("cpu", torch.bfloat16):
        for loss, _ in critic.losses(network, batch):
            assert torch.is_autocast_enabled("cpu")
            assert torch.equal(loss, expected) and loss.dtype == torch.float32
        assert torch.equal(critic.decoder_loss(network, batch.fake, batch.read), wanted)


@pytest.mark.parametrize(
    ("name", "layers", "plain"),
    [
        # Two in each block, a shortcut where channels change (blocks 1, 3, 5 down, all but the first up), and one.
        ("oasis", 12 * 2 + 3 + 5 + 1, ["last"]),
        ("patch", 5, []),
    ],
)
def test_convolutions_are_spectrally_normalised(name: str, layers: int, plain: list[str]) -> None:
    torch.manual_seed(0)
    critic = CRITICS[name]
    network = critic.network(codec_with(4))
    kinds = convolutions(network)
    assert len(kinds) == layers
    assert [convolution for convolution, normal in kinds.items() if not normal] == plain
    batch = critic_batch(1, 4)
    with torch.no_grad():
        for _ in range(60):
            critic.decoder_loss(network, batch.fake, batch.read)
    assert spectral_norms(network) == pytest.approx(dict.fromkeys(spectral_norms(network), 1.0), abs=0.02)


@every_critic
def test_codecs_without_classes_are_refused(critic: Critic) -> None:
    with pytest.raises(SettingError, match="has no `classes`"):
        critic.network(nn.Identity())  # type: ignore[arg-type]
