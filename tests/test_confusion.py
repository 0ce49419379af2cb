"""Confusion matrices, and label maps in the classes of a network."""

import doctest

import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

import callbacks.metrics.confusion
from callbacks.metrics.confusion import ConfusionMatrix, confusion_matrix, intersection_over_union
from callbacks.segmenters import map_labels

CPU = torch.device("cpu")
CLASSES = 11


class TestConfusion:
    def test_equals_torchmetrics(self):
        generator = torch.Generator().manual_seed(0)
        target = torch.randint(0, 6, (3, 20, 30), generator=generator)
        prediction = torch.randint(0, 5, (3, 20, 30), generator=generator)
        matrices = confusion_matrix(target, prediction, classes=6, ignore=2)
        for matrix, t, p in zip(matrices, target, prediction, strict=True):
            assert torch.equal(matrix, multiclass_confusion_matrix(p, t, num_classes=6, ignore_index=2))
        whole = intersection_over_union(matrices.sum(dim=0))
        assert whole.dtype == torch.float64 and not whole[5]  # never predicted
        reference = multiclass_jaccard_index(prediction, target, 6, average="none", ignore_index=None)
        everything = confusion_matrix(target, prediction, 6).sum(dim=0)
        assert intersection_over_union(everything).tolist() == pytest.approx(reference.tolist(), rel=1e-6)

    def test_refuses_unknown_classes_and_shapes(self):
        zeros = torch.zeros(1, 2, 2, dtype=torch.int64)
        with pytest.raises(ValueError, match=r"the label maps hold class 7.*3 classes.*ignored one \(255\)"):
            confusion_matrix(zeros + 7, zeros, classes=3, ignore=255)
        with pytest.raises(ValueError, match="the predictions hold class 3"):
            confusion_matrix(zeros, zeros + 3, classes=3)
        with pytest.raises(ValueError, match="differ in shape"):
            confusion_matrix(zeros, zeros[:, :1], classes=3)
        assert not confusion_matrix(zeros + 255, zeros + 9, classes=3, ignore=255).any()

    def test_metric_counts_an_image_once(self):
        matrix = ConfusionMatrix(classes=2)
        ones = torch.ones(2, 4, 4, dtype=torch.int64)
        matrix.update(ones, ones, torch.tensor([5, 6]))
        matrix.update(ones[:1], ones[:1], torch.tensor([5]))
        assert matrix.compute().tolist() == [[0, 0], [0, 32]]
        assert matrix.compute().dtype == torch.int64

    def test_doctest(self):
        result = doctest.testmod(callbacks.metrics.confusion)
        assert result.attempted > 0 and result.failed == 0


class TestLabelMap:
    def test_cityscapes(self):
        # License plate, unlabeled, road, sidewalk, person, train, bicycle.
        ids = torch.tensor([[[-1, 0, 7, 8], [24, 31, 33, 9]]])
        assert map_labels(ids, "cityscapes34_to_19").tolist() == [[[255, 255, 0, 1], [11, 16, 18, 255]]]
        mapped = map_labels(torch.arange(34)[None, None], "cityscapes34_to_19").flatten()
        assert sorted(mapped[mapped != 255].tolist()) == list(range(19))

    def test_refuses_other_ids(self):
        with pytest.raises(ValueError, match="from 3 to 255"):
            map_labels(torch.tensor([[[3, 255]]]), "cityscapes34_to_19")

    def test_identity(self):
        ids = torch.tensor([[[3, 255]]], dtype=torch.uint8)
        assert map_labels(ids, "identity").tolist() == ids.tolist()
        assert map_labels(ids, "identity").dtype == torch.int64
