"""What a machine still sees in reconstructions: classification accuracy and mean intersection over union."""

from typing import Any

import torch
from torch import Tensor

from callbacks.classifiers import Classifier
from callbacks.gather import all_gather_rows
from callbacks.metric import MetricCallback, OnMissing
from callbacks.metrics.confusion import ConfusionMatrix, intersection_over_union
from callbacks.metrics.feature_buffer import sample_key
from callbacks.metrics.value import NotAvailable, Value
from callbacks.names import ACCURACY, ACCURACY_ORIGINAL, MIOU, MIOU_ORIGINAL
from callbacks.per_image import PerImageMetric
from callbacks.pixel_check import pixel_faults
from callbacks.segmenters import Segmenter
from lightning_modules.step_output import StepOutput


class Accuracy(PerImageMetric):
    """Share of the reconstructions, in percent, whose class a classifier names right, and beside it
    `accuracy_original`, the same of the originals: the ceiling.

    The rows of the record are 100 or 0. It needs `label` in the step output, else it is not available.

    Args:
        classifier: of the images.
        on_missing: "record" warns once and records the metric as not available where the classifier's weights are
            missing; "raise" stops at the start of the validation or test.
    """

    name = ACCURACY
    unit = "%"
    higher_is_better = True

    def __init__(self, classifier: Classifier, on_missing: OnMissing = "record") -> None:
        super().__init__()
        self.classifier = classifier
        self.on_missing = on_missing

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {"images": "8-bit RGB", **self.classifier.protocol(), "right": "the greatest logit is the label's"}

    def prepare(self, device: torch.device) -> None:
        """Load the classifier."""
        self.classifier.prepare(device)

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """100 where the class is right, 0 where it is wrong."""
        if "label" not in output:
            reason = "the data has no classes (`label` of the batch)"
            return {self.name: [NotAvailable(reason)] * len(output["name"])}
        sides = {self.name: output["x_hat"], ACCURACY_ORIGINAL: output["image"]}
        return {name: self._right(images, output["label"]) for name, images in sides.items()}

    def _right(self, images: Tensor, label: Tensor) -> list[Value]:
        logits = self.classifier(images)
        classes = logits.shape[1]
        if int(label.min()) < 0 or int(label.max()) >= classes:
            raise ValueError(
                f"{self.name}: labels {sorted(set(label.tolist()))} are not all among the {classes} classes of the "
                f"classifier ({self.classifier.protocol()}). It must number its classes as the data does."
            )
        finite = logits.isfinite().all(dim=1).tolist()
        right = (logits.argmax(dim=1) == label.to(logits.device)).tolist()
        undefined = NotAvailable("the classifier's logits are not finite")
        return [100.0 * hit if fine else undefined for hit, fine in zip(right, finite, strict=True)]


class MeanIou(MetricCallback):
    """Mean intersection over union, in percent, between label maps and a segmentation of the reconstructions, and
    beside it `miou_original`, the same of the originals: the ceiling.

    It is taken from one confusion matrix of the whole data set (a mean of the images' values is another figure), and
    over the classes that occur in label maps or predictions, as torchmetrics' `MulticlassJaccardIndex` does. The
    intersection over union of each class stands in the record's protocol. It needs `segmentation` in the step
    output, else it is not available.

    Args:
        segmenter: of the images.
        ignore: class of the label maps whose pixels do not count, after the segmenter has mapped them; `None` if all
            count.
        on_missing: see `Accuracy`.
    """

    name = MIOU
    unit = "%"
    higher_is_better = True

    def __init__(self, segmenter: Segmenter, ignore: int | None = 255, on_missing: OnMissing = "record") -> None:
        super().__init__()
        self.segmenter = segmenter
        self.ignore = ignore
        self.on_missing = on_missing
        self.reset()

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "images": "8-bit RGB",
            **self.segmenter.protocol(),
            "ignore": self.ignore,
            "matrix": "one of the whole data set",
            "mean": "over the classes in label maps or predictions",
        }

    def prepare(self, device: torch.device) -> None:
        """Load the segmenter."""
        self.segmenter.prepare(device)

    def reset(self) -> None:
        """Forget the matrices."""
        self._matrices: dict[str, dict[str, ConfusionMatrix]] = {}
        self._faults: dict[str, dict[str, str | None]] = {}

    def update(self, output: StepOutput) -> None:
        """Segment one batch.

        Raises:
            ImageSizeError: the sizes of originals and reconstructions differ.
            ValueError: label maps hold classes that the segmenter does not have.
        """
        faults = pixel_faults(output)
        if "segmentation" not in output:
            faults = ["the data has no label maps (`segmentation` of the batch)"] * len(faults)
        known = self._faults.setdefault(output["dataset"], {})
        known.update(zip(output["name"], faults, strict=True))
        sound = [i for i, fault in enumerate(faults) if fault is None]
        if not sound:
            return
        target = self.segmenter.labels(output["segmentation"][sound])
        size = (target.shape[-2], target.shape[-1])
        key = torch.tensor([sample_key(output["name"][i]) for i in sound])
        matrices = self._of(output["dataset"])
        for name, images in ((self.name, output["x_hat"]), (MIOU_ORIGINAL, output["image"])):
            matrices[name].update(target, self.segmenter(images[sound], size).to(target.device), key)

    def conclude(self) -> None:
        """Sum the matrices of all processes and report each data set."""
        everywhere = all_gather_rows(list(self._faults.items()))
        for dataset in sorted({name for name, _ in everywhere}):
            faults: dict[str, str | None] = {}
            for name, part in everywhere:
                if name == dataset:
                    faults |= part
            reasons = list(dict.fromkeys(fault for _, fault in sorted(faults.items()) if fault is not None))
            lacking = sum(fault is not None for fault in faults.values())
            if lacking:
                count = "all images" if lacking == len(faults) else f"{lacking} of {len(faults)} images"
                self.report_missing(dataset, self.name, f"{count}: {'; '.join(reasons)}")
            if lacking < len(faults):
                for name, matrix in self._of(dataset).items():
                    self._report_matrix(dataset, name, matrix.compute(), len(faults) - lacking)
        self.reset()

    def _of(self, dataset: str) -> dict[str, ConfusionMatrix]:
        if dataset not in self._matrices:
            classes = len(self.segmenter.classes)
            figures = (self.name, MIOU_ORIGINAL)
            self._matrices[dataset] = {name: ConfusionMatrix(classes, self.ignore) for name in figures}
            for matrix in self._matrices[dataset].values():  # torchmetrics warns of a process without a batch
                matrix.update(torch.empty(0, 1, 1), torch.empty(0, 1, 1), torch.empty(0, dtype=torch.int64))
        return self._matrices[dataset]

    def _report_matrix(self, dataset: str, name: str, matrix: Tensor, images: int) -> None:
        if not matrix.any():
            self.report_missing(dataset, name, f"all pixels of the label maps are ignored (class {self.ignore})")
            return
        iou = 100 * intersection_over_union(matrix)
        per_class = {
            label: value
            for label, value in zip(self.segmenter.classes, iou.tolist(), strict=True)
            if value == value  # a class that occurs nowhere has NaN
        }
        self.report(dataset, name, iou.nanmean().item(), images=images, iou_per_class=per_class)
