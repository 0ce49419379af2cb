"""FID, KID, CMMD and ConFID as functions of features, against other implementations and formulas."""

import doctest
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from callbacks.metrics import cmmd as cmmd_module
from callbacks.metrics import frechet as frechet_module
from callbacks.metrics import kernel_distance as kernel_distance_module
from callbacks.metrics import patches as patches_module
from callbacks.metrics.cmmd import cmmd
from callbacks.metrics.conditional_frechet import conditional_frechet, real_floor
from callbacks.metrics.feature_buffer import NO_LABEL, FeatureBuffer, sample_key
from callbacks.metrics.frechet import frechet_distance
from callbacks.metrics.kernel_distance import SUBSET_SIZE, SUBSETS, kernel_distance
from callbacks.metrics.patches import patch_corners
from callbacks.metrics.precision import full_float32


def feature_sets(count: int, dims: int, seed: int = 0, other: int | None = None) -> tuple[Tensor, Tensor]:
    """Correlated, non-negative features, as pooled activations are, and changed ones."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.rand(dims, dims, generator=generator) / dims
    real = torch.rand(count, dims, generator=generator) @ mixing
    fake = 0.9 * torch.rand(other or count, dims, generator=generator) @ mixing + 0.05
    return real, fake


def fid_of_torch_fidelity(real: Tensor, fake: Tensor) -> float:
    statistics = [fid_features_to_statistics(features.double()) for features in (real, fake)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def unit_vectors(count: int, dims: int, noise: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real = F.normalize(torch.randn(count, dims, generator=generator), dim=1)
    return real, F.normalize(real + noise * torch.randn(count, dims, generator=generator), dim=1)


@pytest.mark.parametrize("module", [cmmd_module, frechet_module, patches_module])
def test_doctests(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


class TestFrechet:
    @pytest.mark.parametrize(("count", "dims"), [(2, 8), (40, 96), (96, 96), (97, 96), (500, 96)])
    def test_equals_torch_fidelity(self, count, dims):
        real, fake = feature_sets(count, dims)
        assert frechet_distance(real, fake) == pytest.approx(fid_of_torch_fidelity(real, fake), rel=1e-5)

    @pytest.mark.parametrize("other", [20, 300])
    def test_sets_of_different_sizes(self, other):
        real, fake = feature_sets(60, 48, other=other)
        assert frechet_distance(real, fake) == pytest.approx(fid_of_torch_fidelity(real, fake), rel=1e-5)

    def test_many_samples_are_reduced_in_blocks(self, monkeypatch):
        real, fake = feature_sets(100, 12)
        monkeypatch.setattr(frechet_module, "_QR_ROWS", 7)
        assert frechet_distance(real, fake) == pytest.approx(fid_of_torch_fidelity(real, fake), rel=1e-9)

    def test_known_distances(self):
        real, _ = feature_sets(50, 16)
        real = real.double()
        assert frechet_distance(real, real + 3) == pytest.approx(16 * 9)
        # Scaling about the mean by s scales the covariance by s²: tr Σ (1 - s)².
        scaled = real.mean(dim=0) + 1.5 * (real - real.mean(dim=0))
        assert frechet_distance(real, scaled) == pytest.approx(0.25 * real.T.cov().trace().item())
        assert 0 <= frechet_distance(real, real) < 1e-12

    def test_offsets_do_not_cost_digits(self):
        """Features far from the origin, as float32 keeps them: the statistics are centred before anything else."""
        real, fake = feature_sets(300, 16)
        near = frechet_distance((real + 4096) - 4096, (fake + 4096) - 4096)
        assert frechet_distance(real + 4096, fake + 4096) == pytest.approx(near, rel=1e-9)

    def test_refusals(self):
        real, fake = feature_sets(5, 4)
        with pytest.raises(ValueError, match="1 fake samples; at least 2"):
            frechet_distance(real, fake[:1])
        with pytest.raises(ValueError, match=r"\(5, 4\) and \(5, 3\)"):
            frechet_distance(real, fake[:, :3])
        real[3, 1] = math.nan
        with pytest.raises(ValueError, match=r"real features are not finite, in rows \[3\]"):
            frechet_distance(real, fake)


class TestKernelDistance:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
    def test_equals_torch_fidelity(self, monkeypatch, dtype, tolerance):
        """With its defaults, but for the number of subsets, which is only slow."""
        assert (DEFAULTS["kid_subsets"], DEFAULTS["kid_subset_size"]) == (SUBSETS, SUBSET_SIZE)
        monkeypatch.setattr(kernel_distance_module, "SUBSETS", 3)
        real, fake = feature_sets(1100, 24)
        theirs = kid_features_to_metric(real.to(dtype), fake.to(dtype), kid_subsets=3, verbose=False)
        ours = kernel_distance(real, fake)
        assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=tolerance)
        assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=100 * tolerance)
        assert (ours.subsets, ours.subset_size) == (3, 1000)

    def test_few_samples_give_one_unbiased_estimate(self):
        real, fake = feature_sets(60, 24)
        x, y = real.double().numpy(), fake.double().numpy()
        within = [(a @ a.T / 24 + 1) ** 3 for a in (x, y)]
        means = [(k.sum() - np.trace(k)) / (60 * 59) for k in within]
        expected = sum(means) - 2 * ((x @ y.T / 24 + 1) ** 3).mean()
        ours = kernel_distance(real, fake)
        assert ours.mean == pytest.approx(expected, rel=1e-9)
        assert math.isnan(ours.std) and (ours.subsets, ours.subset_size) == (1, 60)

    def test_refuses_one_sample(self):
        with pytest.raises(ValueError, match="at least 2"):
            kernel_distance(*feature_sets(1, 4))


class TestCmmd:
    @staticmethod
    def direct(real: Tensor, fake: Tensor) -> float:
        """All pairs at once, in numpy's extended precision."""
        x, y = (features.double().numpy().astype(np.longdouble) for features in (real, fake))

        def mean(a: np.ndarray, b: np.ndarray) -> np.longdouble:
            return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / 200).mean()

        return float(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)))

    @pytest.mark.parametrize("noise", [1e-3, 0.03, 1.0])
    @pytest.mark.parametrize("tile", [2048, 37])
    def test_equals_a_direct_computation(self, monkeypatch, noise, tile):
        monkeypatch.setattr(cmmd_module, "_TILE", tile)
        real, fake = unit_vectors(100, 16, noise)
        assert cmmd(real, fake) == pytest.approx(self.direct(real, fake), rel=1e-6)
        assert cmmd(real, fake[:41]) == pytest.approx(self.direct(real, fake[:41]), rel=1e-6)

    def test_the_order_does_not_matter_and_equal_sets_have_distance_0(self):
        real, _ = unit_vectors(64, 16, 1.0)
        assert cmmd(real, real.flip(0)) == pytest.approx(0, abs=1e-11)

    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak of resident memory")
    def test_memory_does_not_grow_with_the_pairs(self):
        """7000 x 7000 kernel values take 392 MB in float64."""

        def resident(peak: str) -> int:
            status = Path("/proc/self/status").read_text()
            return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(peak)) * 1024

        real, fake = unit_vectors(7000, 16, 0.1)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        cmmd(real, fake)
        assert resident("VmHWM") - before < 160e6


class TestConditionalFrechet:
    def test_equals_fid_per_class_by_eigenvalues(self):
        real, fake = feature_sets(150, 48)
        labels = torch.tensor([0] * 30 + [4] * 100 + [7] * 20)[torch.randperm(150)]
        expected = {y: fid_of_torch_fidelity(real[labels == y], fake[labels == y]) for y in (0, 4, 7)}
        result = conditional_frechet(real, fake, labels)
        assert result.per_class == pytest.approx(expected, rel=1e-5)
        assert result.samples == {0: (30, 30), 4: (100, 100), 7: (20, 20)}
        assert result.value == pytest.approx(
            (30 * expected[0] + 100 * expected[4] + 20 * expected[7]) / 150, rel=1e-5
        )

    def test_floor_is_the_bias_of_halves(self):
        real = torch.randn(401, 48, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(401) % 2
        floor = real_floor(real, labels)
        assert floor.samples == {0: (100, 101), 1: (100, 100)}
        assert floor == real_floor(real, labels) and floor != real_floor(real, labels, seed=1)
        # Its mean over seeds is that over splits drawn by another generator.
        ours = np.mean([real_floor(real, labels, seed).per_class[1] for seed in range(20)])
        of_class, rng = real[labels == 1], np.random.default_rng(0)
        splits = [rng.permutation(200) for _ in range(20)]
        theirs = np.mean([fid_of_torch_fidelity(of_class[split[:100]], of_class[split[100:]]) for split in splits])
        assert ours == pytest.approx(theirs, rel=0.05)

    def test_refusals(self):
        real, fake = feature_sets(9, 4)
        labels = torch.tensor([0] * 5 + [1] * 3 + [2])
        with pytest.raises(ValueError, match=r"at least 2 samples of each class; class 2 has 1"):
            conditional_frechet(real, fake, labels)
        with pytest.raises(ValueError, match=r"at least 4 samples of each class; class 1 has 3, class 2 has 1"):
            real_floor(real, labels)
        with pytest.raises(ValueError, match="with 8 labels"):
            conditional_frechet(real, fake, labels[:8])


class TestPatches:
    @pytest.mark.parametrize(("height", "width"), [(16, 16), (23, 40), (24, 24), (41, 58), (15, 60), (24, 23)])
    def test_patches_are_those_of_two_unfolded_grids(self, height, width):
        image = torch.rand(1, 3, height, width)
        corners = patch_corners(height, width, 16)
        ours = [image[0, :, top : top + 16, left : left + 16] for top, left in corners]
        theirs: list[Tensor] = []
        for grid in (image, image[:, :, 8:, 8:]):
            if min(grid.shape[-2:]) >= 16:
                theirs += F.unfold(grid, 16, stride=16)[0].T.reshape(-1, 3, 16, 16)
        assert len(ours) == len(theirs)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def test_kodak_has_192(self):
        """The number that HiFiC's successors state for FID/256 on Kodak."""
        assert 18 * len(patch_corners(512, 768, 256)) + 6 * len(patch_corners(768, 512, 256)) == 192


class TestFeatureBuffer:
    def test_sorted_by_key_and_no_key_twice(self):
        keys = [sample_key(name) for name in ("b.png", "a.png", "c.png")]
        real, fake = feature_sets(3, 4)
        buffer = FeatureBuffer()
        buffer.update(real[:2], fake[:2], torch.tensor(keys[:2]))
        buffer.update(real[1:].double(), fake[1:], torch.tensor(keys[1:]), torch.tensor([5, 6]))
        features = buffer.compute()
        order = np.argsort(keys)
        assert features.key.tolist() == sorted(keys) and len(features) == 3
        assert torch.equal(features.real, real[order]) and torch.equal(features.fake, fake[order])
        assert features.real.dtype == torch.float32
        assert features.label.tolist() == [[NO_LABEL, NO_LABEL, 6][i] for i in order]

    def test_one_sample_keeps_its_shape(self):
        """torchmetrics squeezes what it takes for scalars."""
        buffer = FeatureBuffer()
        buffer.update(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([3]))
        features = buffer.compute()
        assert (features.real.shape, features.label.shape) == ((1, 1), (1,))

    def test_refuses_shapes_that_do_not_match(self):
        with pytest.raises(ValueError, match=r"\(2, 3\), \(2, 4\)"):
            FeatureBuffer().update(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(ValueError, match="labels of shape"):
            FeatureBuffer().update(
                torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 4)
            )

    def test_keys_are_the_same_everywhere(self):
        """Python's own hash differs between processes. `printf kodim01.png | b2sum -l 64` gives this one."""
        assert sample_key("kodim01.png") == int.from_bytes(bytes.fromhex("4d6cb9e4aeaf82fb"), "big", signed=True)
        assert {-1, 1} == {int(np.sign(sample_key(str(i)))) for i in range(9)}  # all 64 bits


def test_full_float32_undoes_what_training_asked_for():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        asked = torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
        with full_float32():
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert asked == (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
