"""The losses of OASIS: against loops over pixels, and over two processes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.losses.segmentation_adversarial import (
    balanced_cross_entropy,
    class_weights,
    fake_cross_entropy,
    label_mix,
    label_mix_loss,
)
from tests.critic_helpers import in_two_processes, pixels_of, slow_mean, slow_weights


def slow_mix(real: Tensor, fake: Tensor, labels: Tensor, choice: Tensor) -> Tensor:
    mixed = torch.empty_like(real)
    for b in range(len(real)):
        for i in range(real.shape[2]):
            for j in range(real.shape[3]):
                source = real if bool(choice[b, int(labels[b, i, j])]) else fake
                mixed[b, :, i, j] = source[b, :, i, j]
    return mixed


def example(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (2, N + 1, 3, 4), and labels (2, 3, 4) of the first half of the classes only."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(max(classes // 2, 1), (2, 3, 4), generator=generator)
    return 3 * torch.randn(2, classes + 1, 3, 4, dtype=torch.float64, generator=generator), labels


@pytest.mark.parametrize(("classes", "ignored"), [(1, None), (6, None), (6, 0), (6, 1), (6, 5), (1, 0)])
def test_class_weights_and_balanced_cross_entropy(classes: int, ignored: int | None) -> None:
    logits, labels = example(classes)
    expected = (
        slow_weights(labels, classes, ignored)
        if any(c != ignored for c in pixels_of(labels))
        else [0.0] * classes  # nothing but ignored pixels: no loss, and no division by zero
    )
    weights = class_weights(labels, classes, ignored)
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)
    assert weights[classes // 2 + 1 :].sum() == 0
    loss = balanced_cross_entropy(logits, labels, weights)
    assert float(loss) == pytest.approx(slow_mean(logits, labels, expected), rel=1e-6)
    assert float(fake_cross_entropy(logits)) == pytest.approx(slow_mean(logits, None, None), rel=1e-9)


def test_every_class_has_an_equal_say_however_rare() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 0, 0] = 3
    logits = torch.randn(1, 6, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = F.cross_entropy(logits, labels + 1, reduction="none")
    expected = (losses[labels == 0].mean() + losses[labels == 3].mean()) / 2
    torch.testing.assert_close(balanced_cross_entropy(logits, labels, class_weights(labels, 5)).double(), expected)


def test_ignored_pixels_have_no_gradient_and_others_have() -> None:
    logits, labels = example(6)
    logits.requires_grad_()
    loss = balanced_cross_entropy(logits, labels, class_weights(labels, 6, ignored=1))
    (gradient,) = torch.autograd.grad(loss, logits)
    moved = gradient.abs().sum(1) > 0
    assert torch.equal(moved, labels != 1) and bool(moved.any()) and not bool(moved.all())


def test_label_mix_takes_each_pixel_from_where_its_class_was_drawn() -> None:
    labels = torch.tensor([[[0, 1, 2], [2, 0, 1]], [[0, 0, 1], [1, 2, 2]]])
    real, fake = torch.rand(2, 3, 2, 3), torch.rand(2, 3, 2, 3)
    for bits in range(64):
        choice = torch.tensor([bool(bits >> k & 1) for k in range(6)]).view(2, 3)
        mixed = label_mix(real, fake, labels, choice)
        assert torch.equal(mixed, slow_mix(real, fake, labels, choice))
    assert labels.tolist() == [[[0, 1, 2], [2, 0, 1]], [[0, 0, 1], [1, 2, 2]]]


def test_class_0_is_not_drawn_again_with_class_1() -> None:
    """Relabelling in place would: pixels of class 0 that are set to 1 become class 1's."""
    labels = torch.tensor([[[0, 1]]])
    mixed = label_mix(torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), labels, torch.tensor([[True, False]]))
    assert mixed.tolist() == [[[[1.0, 0.0]]]]


def test_label_mix_loss_and_its_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed, real, fake = (
        torch.randn(2, 4, 3, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)
    )
    labels = torch.randint(3, (2, 3, 4), generator=generator)
    choice = torch.tensor([[True, False, True], [False, False, True]])
    loss = label_mix_loss(mixed, real, fake, labels, choice)
    difference = (mixed - slow_mix(real, fake, labels, choice)).detach()
    assert loss.item() == pytest.approx(sum(float(d) ** 2 for d in difference.flatten()) / difference.numel())
    of_mixed, of_real, of_fake = torch.autograd.grad(loss, (mixed, real, fake))
    torch.testing.assert_close(of_mixed, 2 * difference / difference.numel())
    torch.testing.assert_close(of_real + of_fake, -of_mixed)
    assert bool(of_real.any()) and bool(of_fake.any())


_BALANCE = """
from lightning_modules.losses.segmentation_adversarial import balanced_cross_entropy, class_weights
logits, labels = (tensor[rank : rank + 1] for tensor in given)
weights = class_weights(labels, 6, 1)
result = weights, balanced_cross_entropy(logits, labels, weights)
"""


def test_two_processes_balance_classes_over_the_whole_batch(tmp_path: Path) -> None:
    logits, labels = example(6)
    weights = class_weights(labels, 6, 1)
    assert class_weights(labels[:1], 6, 1).tolist() != weights.tolist()  # or the test would show nothing
    results = in_two_processes(tmp_path, (logits, labels), _BALANCE)
    assert all(torch.equal(theirs, weights) for theirs, _ in results)
    mean = (results[0][1] + results[1][1]) / 2
    torch.testing.assert_close(mean, balanced_cross_entropy(logits, labels, weights))
