"""Two processes over gloo train both stages as one does with the whole batch."""

from pathlib import Path

import torch

from tests.conftest import quiet_trainer
from tests.digit_helpers import digits_data, small_two_stage
from tests.ranks import finish, start


def train_as(world: int, output: Path, how: str) -> None:
    """Train as one rank of a world; writes weights and gradients."""
    still = how == "still"
    rates = {"learning_rate": 0.0, "critic_learning_rate": 0.0} if still else {}
    module = small_two_stage(
        adversarial={"critic_warmup": 0 if still else 2, **rates}, mse={"learning_rate": 0.0 if still else 1e-3}
    )
    steps = 1 if still else 4
    data = digits_data(batch_size=64 // world)
    trainer = quiet_trainer(
        output,
        max_epochs=2,
        limit_train_batches=steps,
        limit_val_batches=0,
        gradient_clip_val=None,
        devices=world,
        strategy="ddp" if world > 1 else "auto",
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 2 * steps and trainer.world_size == world and module.second_stage_batches == steps
    gradients = {f"gradient.{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    torch.save({**module.state_dict(), **gradients}, output / f"{how}_{world}_{trainer.global_rank}.pt")


def train(folder: Path, world: int, how: str) -> list[dict[str, torch.Tensor]]:
    """What each rank ends with."""
    finish(start(world, train_as, world, folder, how))
    return [torch.load(folder / f"{how}_{world}_{rank}.pt", weights_only=True) for rank in range(world)]


def test_two_ranks_have_the_gradients_of_one_process_in_both_stages(tmp_path: Path) -> None:
    """At equal weights, which learning rates of zero keep. RMSprop and Adam make full steps of gradients that are
    nothing but rounding, such as those of biases before BatchNorm, so weights could not be compared as closely.
    """
    (one,) = train(tmp_path, 1, "still")
    two, _ = train(tmp_path, 2, "still")
    parts = {"codec": 0, "g2": 0, "critic": 0}
    for name, value in one.items():
        if name.startswith("gradient."):
            scale = max(float(value.abs().max()), 1e-6)
            assert float((two[name] - value).abs().max()) < 1e-4 * scale + 1e-6, name
            parts[name.split(".")[1]] += 1
        elif "running" in name:
            torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6)
    assert min(parts.values()) >= 10


def test_ranks_stay_equal(tmp_path: Path) -> None:
    first, second = train(tmp_path, 2, "moving")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    (fresh,) = train(tmp_path, 1, "still")
    moved = {name.split(".")[0] for name, value in fresh.items() if not torch.equal(value, first[name])}
    assert {"codec", "g2", "critic", "ema"} <= moved
