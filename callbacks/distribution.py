"""Distances between the distributions of originals and of reconstructions: FID, KID, CMMD, ConFID."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.extractors import ClipVision, FeatureExtractor, Inception
from callbacks.extractors.clip_vision import DEFAULT_NAME as CLIP
from callbacks.features import DatasetFeatures, FeatureMetric
from callbacks.metric import OnMissing
from callbacks.metrics.cmmd import SCALE, SIGMA, cmmd
from callbacks.metrics.conditional_frechet import conditional_frechet, real_floor
from callbacks.metrics.feature_buffer import NO_LABEL
from callbacks.metrics.frechet import frechet_distance
from callbacks.metrics.kernel_distance import SUBSET_SIZE, kernel_distance
from callbacks.names import CMMD, CONFID, CONFID_FLOOR, FID, KID, KID_STD, feature_figure

_INCEPTION = "inception"
_FRECHET = {
    "statistics": "mean and covariance (n - 1)",
    "distance": "exact, nuclear norm",
    "distance_dtype": "float64",
}


class Fid(FeatureMetric):
    """FID (Heusel et al., 2017): Fréchet distance between Gaussians fitted to the features of a dataset.

    It is biased upwards by about 1/n, most where there are fewer images than feature dimensions; compare figures of
    equal `samples` only.

    Args:
        extractor: of the features; by default `callbacks.extractors.Inception`. With another one the figure is
            called `fid_<extractor>`.
        on_missing: "record" warns once and records the metric as not available where the extractor's weights are
            missing; "raise" stops at the start of the validation or test.
    """

    def __init__(self, extractor: FeatureExtractor | None = None, on_missing: OnMissing = "record") -> None:
        extractor = extractor or Inception()
        super().__init__(feature_figure(FID, extractor.name, _INCEPTION), extractor, on_missing=on_missing)

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {**super().protocol(), **_FRECHET}

    def measure(self, dataset: str, features: DatasetFeatures) -> None:
        """FID of a dataset."""
        self.report(dataset, self.name, frechet_distance(features.real, features.fake), **_counted(features))


class PatchFid(FeatureMetric):
    """FID/256 (Mentzer et al., 2020): FID between patches of large images, for sets of few large images.

    Each image gives the whole patches of a grid from its corner, and those of a second grid half a patch further down
    and right. Images smaller than a patch have none; they are counted.

    Args:
        extractor: of the features; by default `callbacks.extractors.Inception`. With another one the figure is
            called `fid_patch256_<extractor>`.
        patch_size: side of the patches in pixels, even. It is part of the figure's name.
        on_missing: see `Fid`.
    """

    def __init__(
        self,
        extractor: FeatureExtractor | None = None,
        patch_size: int = 256,
        on_missing: OnMissing = "record",
    ) -> None:
        if patch_size < 2 or patch_size % 2:
            raise ValueError(f"patch_size must be even and at least 2, not {patch_size}")
        extractor = extractor or Inception()
        name = feature_figure(f"{FID}_patch{patch_size}", extractor.name, _INCEPTION)
        super().__init__(name, extractor, patch_size, on_missing)

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        patches = "whole patches of a grid and of one shifted by half a patch both ways"
        return {**super().protocol(), **_FRECHET, "patch_size": self.store.patch_size, "patches": patches}

    def measure(self, dataset: str, features: DatasetFeatures) -> None:
        """FID of a dataset's patches."""
        value = frechet_distance(features.real, features.fake)
        self.report(dataset, self.name, value, images=len(set(features.images)), **_counted(features))


class Kid(FeatureMetric):
    """KID (Bińkowski et al., 2018), and `kid_std`, the standard deviation of the estimates whose mean it is.

    It is unbiased, so small sets are only noisy, and values slightly below 0 are proper. Under 1000 images it is one
    estimate on all of them, without a spread.

    Args:
        extractor: of the features; by default `callbacks.extractors.Inception`. With another one the figures are
            called `kid_<extractor>` and `kid_std_<extractor>`.
        on_missing: see `Fid`.
    """

    def __init__(self, extractor: FeatureExtractor | None = None, on_missing: OnMissing = "record") -> None:
        extractor = extractor or Inception()
        super().__init__(feature_figure(KID, extractor.name, _INCEPTION), extractor, on_missing=on_missing)
        self.std_name = feature_figure(KID_STD, extractor.name, _INCEPTION)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figure and the one beside it."""
        return self.name, self.std_name

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        distance = {"kernel": "(x.y / D + 1)^3", "estimator": "unbiased, torch-fidelity", "distance_dtype": "float64"}
        return {**super().protocol(), **distance}

    def measure(self, dataset: str, features: DatasetFeatures) -> None:
        """KID of a dataset."""
        kid = kernel_distance(features.real, features.fake)
        details = {"samples": len(features), "subsets": kid.subsets, "subset_size": kid.subset_size}
        self.report(dataset, self.name, kid.mean, **details)
        if kid.subsets > 1:
            self.report(dataset, self.std_name, kid.std, **details)
        else:
            reason = f"under {SUBSET_SIZE} images KID is a single estimate, which has no spread"
            self.report_missing(dataset, self.std_name, reason)


class Cmmd(FeatureMetric):
    """CMMD (Jayasumana et al., 2024): maximum mean discrepancy of CLIP embeddings.

    Args:
        extractor: of the features; by default `callbacks.extractors.ClipVision`, without projection as in the TACO
            paper. With another one the figure is called `cmmd_<extractor>`.
        on_missing: see `Fid`.
    """

    def __init__(self, extractor: FeatureExtractor | None = None, on_missing: OnMissing = "record") -> None:
        extractor = extractor or ClipVision()
        super().__init__(feature_figure(CMMD, extractor.name, CLIP), extractor, on_missing=on_missing)

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        distance = {"kernel": f"Gaussian, sigma {SIGMA:g}", "scale": SCALE, "estimator": "biased"}
        return {**super().protocol(), **distance, "distance_dtype": "float64"}

    def measure(self, dataset: str, features: DatasetFeatures) -> None:
        """CMMD of a dataset."""
        self.report(dataset, self.name, cmmd(features.real, features.fake), samples=len(features))


class ConFid(FeatureMetric):
    """ConFID (Xu et al., 2023): FID within each class, averaged by the share of the class among the images.

    Classes have few images, so much of the figure is bias. `confid_floor` stands beside it: the same between random
    halves of the originals of each class, which is bias alone, at half the samples.

    Args:
        extractor: of the features; by default `callbacks.extractors.Inception`. With another one the figures are
            called `confid_<extractor>` and `confid_floor_<extractor>`.
        min_samples_per_class: warn where a class has fewer images.
        num_classes: classes 0 to num_classes - 1 must all occur; `None` takes those that do.
        seed: of the halves.
        on_missing: see `Fid`.
    """

    def __init__(
        self,
        extractor: FeatureExtractor | None = None,
        min_samples_per_class: int = 500,
        num_classes: int | None = None,
        seed: int = 0,
        on_missing: OnMissing = "record",
    ) -> None:
        extractor = extractor or Inception()
        super().__init__(feature_figure(CONFID, extractor.name, _INCEPTION), extractor, on_missing=on_missing)
        self.floor_name = feature_figure(CONFID_FLOOR, extractor.name, _INCEPTION)
        self.min_samples_per_class = min_samples_per_class
        self.num_classes = num_classes
        self.seed = seed
        self._sanity_checking = False

    @property
    def figures(self) -> tuple[str, ...]:
        """The figure and the one beside it."""
        return self.name, self.floor_name

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        classes = {"classes": "weighted by their share of the images", "floor": "random halves of the originals"}
        return {**super().protocol(), **_FRECHET, **classes, "floor_seed": self.seed}

    def measure(self, dataset: str, features: DatasetFeatures) -> None:
        """ConFID of a dataset, and its floor."""
        if reason := self._unlabelled(features) or self._short_classes(features, 2):
            self.report_missing(dataset, self.name, reason)
            return
        value = conditional_frechet(features.real, features.fake, features.label)
        few = {y: n for y, (n, _) in value.samples.items() if n < self.min_samples_per_class}
        per_class = {str(y): {"fid": fid, "samples": value.samples[y][0]} for y, fid in value.per_class.items()}
        details = {**_counted(features), "per_class": per_class}
        if few:
            details["classes_below_min_samples"] = list(few)
            details["min_samples_per_class"] = self.min_samples_per_class
            least = min(few, key=few.__getitem__)
            if not self._sanity_checking:
                rank_zero_warn(
                    f"{self.name} on {dataset}: {len(few)} of {len(value.samples)} classes have fewer than "
                    f"{self.min_samples_per_class} images (class {least}: {few[least]}). "
                    f"Much of the figure is bias; see {self.floor_name}, and compare at equal samples only."
                )
        self.report(dataset, self.name, value.value, **details)
        if reason := self._short_classes(features, 4):
            self.report_missing(dataset, self.floor_name, reason)
            return
        floor = real_floor(features.real, features.label, self.seed)
        halves = {str(y): {"fid": fid, "samples_per_side": floor.samples[y]} for y, fid in floor.per_class.items()}
        self.report(dataset, self.floor_name, floor.value, samples=len(features), per_class=halves)

    def _unlabelled(self, features: DatasetFeatures) -> str | None:
        images = [image for image, y in zip(features.images, features.label.tolist(), strict=True) if y == NO_LABEL]
        if images:
            return (
                f"{len(images)} of {len(features)} images have no class (`label` of the batch), such as {images[0]}"
            )
        if self.num_classes is None:
            return None
        present, declared = set(features.label.tolist()), set(range(self.num_classes))
        if present - declared:
            return f"labels {sorted(present - declared)} are not among num_classes = {self.num_classes} classes"
        if declared - present:
            return f"classes {sorted(declared - present)} of num_classes = {self.num_classes} have no image"
        return None

    def _short_classes(self, features: DatasetFeatures, least: int) -> str | None:
        labels, counts = features.label.unique(return_counts=True)
        short = labels[counts < least].tolist()
        return f"classes {short} have fewer than {least} images" if short else None

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Classes are small here by intention."""
        self._sanity_checking = True

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on small classes are worth a warning."""
        self._sanity_checking = False


def _counted(features: DatasetFeatures) -> dict[str, Any]:
    """Details of a Fréchet distance, whose bias depends on the number of samples."""
    samples, dims = features.real.shape
    details = {"samples": samples, "feature_dims": dims}
    return details | ({"bias": "fewer samples than feature dimensions: biased upwards"} if samples <= dims else {})
