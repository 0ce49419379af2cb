"""Accuracy and mean intersection over union against torchmetrics and networks called directly; bad pixels."""

import math
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchvision.transforms.v2.functional import resize
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    CLIPImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from callbacks.classifiers import Classifier, HuggingFaceClassifier
from callbacks.metric import MetricCallback
from callbacks.quality import Mse
from callbacks.result_record import ResultRecord
from callbacks.segmenters import HuggingFaceSegmenter
from callbacks.tasks import Accuracy, MeanIou
from datamodules.batch import Batch
from lightning_modules.errors import PretrainedError
from lightning_modules.step_output import StepOutput
from tests.callback_helpers import TinyCodec, TinyImages, collate, loader, record, run_test
from tests.conftest import two_processes
from tests.test_bad_pixels import BrokenCodec, output_of

CPU = torch.device("cpu")
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
CLASSES = 11


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small SegFormer with random weights, as a folder; strong ones, so that its maps have several classes."""
    folder = tmp_path_factory.mktemp("hf") / "small-segformer"
    config = SegformerConfig(
        num_labels=CLASSES,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label={i: f"class {i}" for i in range(CLASSES)},
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 512, "width": 512}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small ViT with random weights, as a folder."""
    folder = tmp_path_factory.mktemp("hf") / "small-vit"
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=40,
        patch_size=8,
        num_labels=4,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(folder)
    return str(folder)


class Scenes(Dataset):
    """Pictures with label maps at half their size: CamVid, or ramps with blocks of classes."""

    def __init__(self, count: int, camvid: Path | None = None) -> None:
        self.count, self.camvid = count, camvid
        self.ramps = TinyImages(count, "scenes", side=64, classes=4)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        sample = self.ramps[i]
        if self.camvid is None:
            rows, columns = torch.arange(32)[:, None] // 8, torch.arange(32) // 8
            sample["segmentation"] = (rows * columns + i) % (CLASSES + 1)
        else:
            path = sorted((self.camvid / "val").glob("*.png"))[i]
            labels = Image.open(self.camvid / "valannot" / path.name).resize((120, 90), Image.Resampling.NEAREST)
            picture = Image.open(path).convert("RGB").resize((240, 180))
            sample["image"] = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
            sample["segmentation"] = torch.from_numpy(np.array(labels)).long()
            sample["name"] = path.name
        return sample


def collate_scenes(samples: list[dict]) -> Batch:
    batch = collate(samples)
    batch["segmentation"] = torch.stack([sample["segmentation"] for sample in samples])
    return batch


def scenes(count: int, batch_size: int = 1, camvid: Path | None = None) -> DataLoader:
    return DataLoader(Scenes(count, camvid), batch_size=batch_size, collate_fn=collate_scenes)


class SceneCodec(TinyCodec):
    """Passes label maps on."""

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> StepOutput:
        output = super().test_step(batch, batch_idx)
        if "segmentation" in batch:
            output["segmentation"] = batch["segmentation"]
        return output


class BrokenScenes(BrokenCodec, SceneCodec):
    """Spoils one of the scenes."""


class TestMeanIou:
    def test_an_image_with_nan_is_not_in_the_matrix(self, tmp_path, segformer):
        metric = MeanIou(HuggingFaceSegmenter(segformer), ignore=11)
        run_test(tmp_path, metric, model=BrokenScenes(math.nan), data=scenes(3, batch_size=3))
        assert "1 of 3 images: im7.jpg: the reconstruction holds NaN" in metric.not_available["scenes"]["miou"]
        assert metric.details["scenes"]["miou"]["images"] == 2

    def test_is_that_of_the_data_set(self, tmp_path, segformer, data_root):
        """On street scenes, against the network called by hand and torchmetrics on all pixels at once."""
        size = (128, 160)
        metric = MeanIou(HuggingFaceSegmenter(segformer, input_size=size), ignore=11)
        data = scenes(4, batch_size=2, camvid=data_root / "camvid")
        run_test(tmp_path, metric, ResultRecord(), model=SceneCodec(), data=data)

        network = AutoModelForSemanticSegmentation.from_pretrained(segformer).eval()
        samples = [data.dataset[i] for i in range(4)]
        image = torch.stack([sample["image"] for sample in samples])
        target = torch.stack([sample["segmentation"] for sample in samples])
        written = record(tmp_path, "scenes")
        for name, pictures in (("miou", SceneCodec().code(image)), ("miou_original", image)):
            resized = resize((255 * pictures).round().byte(), list(size), antialias=True)
            with torch.no_grad():
                logits = network(pixel_values=(resized / 255 - MEAN) / STD).logits
            prediction = F.interpolate(logits, (90, 120), mode="bilinear").argmax(dim=1)
            expected = 100 * multiclass_jaccard_index(prediction, target, CLASSES, ignore_index=11).item()
            assert written["mean"][name] == pytest.approx(expected, rel=1e-5)
            per_image = [
                100 * multiclass_jaccard_index(p, t, CLASSES, ignore_index=11).item()
                for p, t in zip(prediction, target, strict=True)
            ]
            assert abs(np.mean(per_image) - expected) > 0.01 * expected  # so the two could be told apart
            protocol = written["protocols"][name]
            assert protocol["images"] == 4 and protocol["segmenter"] == "small-segformer"
            assert protocol["input_size"] == list(size) and protocol["ignore"] == 11
            assert np.mean(list(protocol["iou_per_class"].values())) == pytest.approx(written["mean"][name])
            assert set(protocol["iou_per_class"]) <= {f"class {i}" for i in range(CLASSES)}
        assert 0 < written["mean"]["miou"] != written["mean"]["miou_original"]

    def test_network_sees_pixels_as_they_are(self, segformer):
        """Without resizing, against the network called by hand: no rounding, so exactly."""
        segmenter = HuggingFaceSegmenter(segformer)
        segmenter.prepare(CPU)
        image = (255 * torch.rand(2, 3, 70, 90, generator=torch.Generator().manual_seed(0))).round() / 255
        with torch.no_grad():
            network = AutoModelForSemanticSegmentation.from_pretrained(segformer).eval()
            logits = network(pixel_values=(image - MEAN) / STD).logits
        expected = F.interpolate(logits, (35, 45), mode="bilinear").argmax(dim=1)
        prediction = segmenter(image, (35, 45))
        assert (prediction == expected).double().mean() > 0.999
        assert len(expected.unique()) > 2

    def test_without_label_maps_it_is_not_available(self, tmp_path, segformer):
        run_test(tmp_path, MeanIou(HuggingFaceSegmenter(segformer)), ResultRecord(), data=loader(2))
        written = record(tmp_path)
        assert "segmentation" in written["not_available"]["miou"] and "miou" not in written["mean"]

    def test_ignored_maps_are_not_available(self, segformer):
        metric = MeanIou(HuggingFaceSegmenter(segformer), ignore=255)
        metric.prepare(CPU)
        image = torch.rand(1, 3, 32, 32)
        metric.update(output_of(image, image, segmentation=torch.full((1, 32, 32), 255)))
        metric.conclude()
        assert metric.summary == {} and "ignored" in metric.not_available["d"]["miou"]

    def test_unknown_classes_are_an_error(self, segformer):
        metric = MeanIou(HuggingFaceSegmenter(segformer), ignore=255)
        metric.prepare(CPU)
        image = torch.rand(1, 3, 32, 32)
        with pytest.raises(ValueError, match="hold class 11, which is neither among the 11 classes"):
            metric.update(output_of(image, image, segmentation=torch.full((1, 32, 32), 11)))

    def test_processors_that_crop_are_refused(self, segformer, tmp_path):
        network = SegformerForSemanticSegmentation.from_pretrained(segformer)
        network.save_pretrained(tmp_path / "crops")
        CLIPImageProcessor(crop_size={"height": 16, "width": 16}).save_pretrained(tmp_path / "crops")
        segmenter = HuggingFaceSegmenter(str(tmp_path / "crops"))
        segmenter.prepare(CPU)
        with pytest.raises(ValueError, match=r"makes \(16, 16\) of images that should be \(32, 32\)"):
            segmenter(torch.rand(1, 3, 32, 32), (32, 32))


class TestAccuracy:
    def test_equals_the_network_by_hand(self, tmp_path, vit):
        metric = Accuracy(HuggingFaceClassifier(vit))
        data = loader(9, batch_size=4, classes=4)
        run_test(tmp_path, metric, ResultRecord(), data=data)
        samples = [data.dataset[i] for i in range(9)]
        image = torch.stack([sample["image"] for sample in samples])
        label = torch.tensor([sample["label"] for sample in samples])
        network = AutoModelForImageClassification.from_pretrained(vit).eval()
        written = record(tmp_path)
        names = [sample["name"] for sample in samples]
        rows = {row["name"]: row for row in written["images"]}
        for name, pictures in (("accuracy", TinyCodec().code(image)), ("accuracy_original", image)):
            with torch.no_grad():
                right = network(pixel_values=(pictures - 0.5) / 0.5).logits.argmax(dim=1) == label
            assert written["mean"][name] == pytest.approx(100 * right.double().mean().item())
            assert [rows[image][name] for image in names] == (100.0 * right).tolist()
        assert 0 < written["mean"]["accuracy"] < 100
        assert written["protocols"]["accuracy"]["classifier"] == "small-vit"
        assert written["protocols"]["accuracy"]["unit"] == "%"

    def test_without_labels_it_is_not_available(self, tmp_path, vit):
        run_test(tmp_path, Accuracy(HuggingFaceClassifier(vit)), ResultRecord(), data=loader(2))
        written = record(tmp_path)
        assert "all images: the data has no classes" in written["not_available"]["accuracy"]
        assert "accuracy" not in written["mean"]

    def test_labels_must_be_classes_of_the_network(self, vit):
        metric = Accuracy(HuggingFaceClassifier(vit))
        metric.prepare(CPU)
        image = torch.rand(2, 3, 40, 40)
        with pytest.raises(ValueError, match=r"labels \[1, 4\] are not all among the 4 classes"):
            metric.update(output_of(image, image, label=torch.tensor([1, 4])))

    def test_other_classifiers_and_undefined_logits(self):
        class Brightness(Classifier):
            def prepare(self, device):
                pass

            def protocol(self):
                return {"classifier": "brightness"}

            def __call__(self, images):
                mean = images.mean(dim=(1, 2, 3))
                return torch.where(mean[:, None] == 0, math.nan, torch.stack([1 - mean, mean], dim=1))

        metric = Accuracy(Brightness())
        image = torch.stack([torch.full((1, 32, 32), v) for v in (0.1, 0.9, 0.2)])
        x_hat = torch.stack([torch.full((1, 32, 32), v) for v in (0.2, 0.4, 0.0)])
        metric.update(output_of(image, x_hat, label=torch.tensor([0, 1, 0])))
        metric.conclude()
        assert metric.summary["d"] == {"accuracy": 50.0, "accuracy_original": 100.0}
        assert "1 of 3 images: the classifier's logits are not finite" in metric.not_available["d"]["accuracy"]


class TestMissingNetworks:
    @pytest.mark.parametrize(
        ("metric", "setting"),
        [
            (Accuracy(HuggingFaceClassifier("./nowhere/net")), "callbacks.classifiers.HuggingFaceClassifier"),
            (MeanIou(HuggingFaceSegmenter("./nowhere/net")), "callbacks.segmenters.HuggingFaceSegmenter"),
        ],
    )
    def test_recorded_with_folder_and_setting(self, tmp_path, metric: MetricCallback, setting):
        with pytest.warns(UserWarning, match="will be recorded as not available"):
            run_test(tmp_path, metric, ResultRecord(), data=loader(1, classes=2))
        reason = record(tmp_path)["not_available"][metric.name]
        assert "./nowhere/net" in reason and f"{setting}.init_args.pretrained" in reason
        assert "does not exist" in reason and "config.json, model.safetensors and preprocessor_config.json" in reason

    def test_hub_out_of_reach(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(PretrainedError, match=r"segmentation network: nobody/nothing is not in the hub cache"):
            HuggingFaceSegmenter("nobody/nothing").prepare(CPU)

    def test_networks_of_another_kind_and_incomplete_ones(self, vit, tmp_path):
        with pytest.raises(PretrainedError, match=r"segmentation network: cannot use .*small-vit"):
            HuggingFaceSegmenter(vit).prepare(CPU)
        config = ViTConfig.from_pretrained(vit)
        network = ViTForImageClassification(config)
        network.save_pretrained(tmp_path, state_dict={k: v for k, v in network.state_dict().items() if "layer" in k})
        ViTImageProcessor().save_pretrained(tmp_path)
        with pytest.raises(PretrainedError, match=r"classifier: .* its weights lack classifier\.bias"):
            HuggingFaceClassifier(str(tmp_path)).prepare(CPU)


def test_two_processes_give_the_result_of_one(tmp_path, vit, segformer):
    """5 images on 2 processes: the sampler repeats one, which must not count twice."""

    def metrics() -> list[L.Callback]:
        segmenter = HuggingFaceSegmenter(segformer)
        return [Mse(), Accuracy(HuggingFaceClassifier(vit)), MeanIou(segmenter, ignore=11), ResultRecord()]

    run_test(tmp_path / "one", *metrics(), model=SceneCodec(), data=scenes(5))
    run_test(tmp_path / "two", *metrics(), model=SceneCodec(), data=scenes(5), strategy=two_processes(), devices=2)
    one, two = record(tmp_path / "one", "scenes"), record(tmp_path / "two", "scenes")
    assert set(one["mean"]) == {"mse", "accuracy", "accuracy_original", "miou", "miou_original"}
    assert len(two["images"]) == two["protocols"]["miou"]["images"] == 5
    for key in ("images", "mean", "protocols"):
        assert one[key] == two[key]
