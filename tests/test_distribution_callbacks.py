"""FID, KID, CMMD and ConFID as callbacks: shared features, records, several processes, what is missing."""

import json
import math
import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.distributed as dist
from jsonargparse import ArgumentParser
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.distribution import Cmmd, ConFid, Fid, Kid, PatchFid
from callbacks.extractors import ClipVision, Inception, RandomFeatures
from callbacks.features import FeatureMetric
from callbacks.metrics.cmmd import cmmd
from callbacks.metrics.conditional_frechet import conditional_frechet, real_floor
from callbacks.metrics.feature_buffer import FeatureBuffer, sample_key
from callbacks.metrics.frechet import frechet_distance
from callbacks.metrics.kernel_distance import kernel_distance
from callbacks.names import feature_figure
from callbacks.result_record import ResultRecord
from lightning_modules.errors import PretrainedError
from tests.callback_helpers import TinyCodec, TinyImages, collate, loader, record, run_test, trainer
from tests.conftest import two_processes


class Counted(RandomFeatures):
    """Counts its passes, of all its copies."""

    calls = 0

    def extract(self, network, images: Tensor) -> Tensor:
        Counted.calls += 1
        return super().extract(network, images)


class Defective(TinyCodec):
    """Decodes one image to NaN."""

    def code(self, image: Tensor) -> Tensor:
        first = TinyImages(1)[0]["image"]
        damaged = torch.where(torch.zeros_like(first).bool().index_fill(1, torch.tensor([3]), True), torch.nan, first)
        return torch.stack([damaged if torch.equal(x, first) else super(Defective, self).code(x) for x in image])


def features_of(
    data: TinyImages, extractor: RandomFeatures, codec: TinyCodec | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Features and labels in the order of the buffer."""
    extractor.prepare(torch.device("cpu"))
    samples = sorted((data[i] for i in range(len(data))), key=lambda sample: sample_key(sample["name"]))
    images = torch.stack([sample["image"] for sample in samples])
    real, fake = (
        torch.cat([extractor(x[None]) for x in side]) for side in (images, (codec or TinyCodec()).code(images))
    )
    return real, fake, torch.tensor([sample.get("label", -1) for sample in samples])


def all_metrics(dims: int = 6) -> list[FeatureMetric]:
    """Small features, so that 9 images are many."""
    few = ConFid(RandomFeatures(dims), min_samples_per_class=1)
    return [Fid(RandomFeatures(dims)), Kid(RandomFeatures(dims)), Cmmd(RandomFeatures(dims)), few]


class TestFigures:
    def test_they_are_those_of_the_features(self, tmp_path):
        metrics = all_metrics()
        tester = trainer(tmp_path, *metrics, ResultRecord())
        tester.test(TinyCodec(levels=2), loader(9, batch_size=2, classes=2), verbose=False)
        real, fake, labels = features_of(TinyImages(9, classes=2), RandomFeatures(6), TinyCodec(levels=2))
        expected = {
            "fid_random": frechet_distance(real, fake),
            "kid_random": kernel_distance(real, fake).mean,
            "cmmd_random": cmmd(real, fake),
            "confid_random": conditional_frechet(real, fake, labels).value,
            "confid_floor_random": real_floor(real, labels).value,
        }
        assert min(abs(value) for value in expected.values()) > 1e-3
        summary = {name: value for metric in metrics for name, value in metric.summary["tiny"].items()}
        assert summary == pytest.approx(expected, rel=1e-3)
        for name, value in expected.items():
            assert tester.callback_metrics[f"test/tiny/{name}"] == pytest.approx(value, rel=1e-3)
        written = record(tmp_path)
        assert written["mean"].items() >= summary.items()
        assert written["protocols"]["cmmd_random"]["kernel"] == "Gaussian, sigma 10"
        assert written["protocols"]["fid_random"]["extractor"] == "random convolutions, for tests"
        assert written["protocols"]["fid_random"]["samples"] == 9
        assert written["protocols"]["confid_random"]["per_class"]["1"]["samples"] == 4
        assert written["protocols"]["confid_floor_random"]["per_class"]["1"]["samples_per_side"] == [2, 2]
        assert "single estimate" in written["not_available"]["kid_std_random"]

    def test_details_say_on_how_many_samples(self, tmp_path):
        metrics = all_metrics(dims=6)
        run_test(tmp_path, *metrics, data=loader(9, classes=2))
        fid, kid, mmd, confid = (metric.details["tiny"] for metric in metrics)
        assert fid == {"fid_random": {"samples": 9, "feature_dims": 6}}
        assert kid == {"kid_random": {"samples": 9, "subsets": 1, "subset_size": 9}}
        assert mmd == {"cmmd_random": {"samples": 9}}
        per_class = confid["confid_random"]["per_class"]
        assert {y: row["samples"] for y, row in per_class.items()} == {"0": 5, "1": 4}
        floor = confid["confid_floor_random"]["per_class"]
        assert {y: row["samples_per_side"] for y, row in floor.items()} == {"0": (2, 3), "1": (2, 2)}
        large = Fid(RandomFeatures(9))
        run_test(tmp_path, large, data=loader(9))
        assert "biased upwards" in large.details["tiny"]["fid_random"]["bias"]

    def test_validation_and_several_datasets(self, tmp_path):
        metric = Fid(RandomFeatures(6))
        fitter = trainer(tmp_path, metric, max_steps=2, val_check_interval=1)
        fitter.fit(TinyCodec(), loader(2), [loader(3, dataset="a"), loader(4, dataset="b")])
        for dataset, count in (("a", 3), ("b", 4)):
            real, fake, _ = features_of(TinyImages(count), RandomFeatures(6))
            assert metric.summary[dataset]["fid_random"] == pytest.approx(frechet_distance(real, fake), rel=1e-3)
            assert metric.details[dataset]["fid_random"]["samples"] == count  # of one epoch, not of all
            assert f"val/{dataset}/fid_random" in fitter.callback_metrics

    def test_kid_spread(self, tmp_path, monkeypatch):
        monkeypatch.setattr("callbacks.metrics.kernel_distance.SUBSET_SIZE", 5)
        metric = Kid(RandomFeatures(6))
        run_test(tmp_path, metric, data=loader(8))
        assert metric.summary["tiny"]["kid_std_random"] > 0
        assert metric.details["tiny"]["kid_std_random"] == {"samples": 8, "subsets": 100, "subset_size": 5}

    def test_images_that_occur_twice_count_once(self, tmp_path):
        metric = Fid(RandomFeatures(6))
        with pytest.warns(UserWarning, match=r"features: image 'im0.jpg' occurs twice in tiny"):
            run_test(tmp_path, metric, data=loader(11))
        assert metric.details["tiny"]["fid_random"]["samples"] == 10


class TestSharing:
    def test_one_pass_for_equal_extractors(self, tmp_path):
        few = ConFid(Counted(6), min_samples_per_class=1)
        metrics = [Fid(Counted(6)), Kid(Counted(6)), few, Cmmd(Counted(6, seed=1))]
        Counted.calls = 0
        run_test(tmp_path, *metrics, data=loader(6, batch_size=2, classes=1))
        assert Counted.calls == 2 * 3 * 2  # two extractors, three batches, originals and reconstructions
        assert metrics[0].extractor is metrics[2].extractor and metrics[0].extractor is not metrics[3].extractor

    def test_one_attempt_to_load(self, tmp_path):
        class Unavailable(RandomFeatures):
            attempts = 0

            def load(self):
                Unavailable.attempts += 1
                raise PretrainedError("no network")

        metrics = [Fid(Unavailable()), Kid(Unavailable()), Cmmd(Unavailable())]
        run_test(tmp_path, *metrics)
        assert Unavailable.attempts == 1
        missing = [metric.not_available["tiny"] for metric in metrics]
        figures = [["fid_random"], ["kid_random", "kid_std_random"], ["cmmd_random"]]
        assert missing == [dict.fromkeys(names, "no network") for names in figures]

    def test_patches_share_the_network_but_not_the_pass(self, tmp_path):
        whole, patches = Fid(RandomFeatures(6)), PatchFid(RandomFeatures(6), patch_size=16)
        run_test(tmp_path, whole, patches)
        assert whole.extractor is patches.extractor and whole.store is not patches.store
        assert whole.details["tiny"]["fid_random"]["samples"] == 5

    def test_the_same_metrics_in_another_trainer(self, tmp_path):
        fid, kid = Fid(RandomFeatures(6)), Kid(RandomFeatures(6))
        run_test(tmp_path, fid, kid)
        first = fid.summary, kid.summary
        run_test(tmp_path, kid)
        run_test(tmp_path, kid, fid)
        assert (fid.summary, kid.summary) == first

    def test_memory_is_freed(self, tmp_path):
        metric = Fid(RandomFeatures(6))
        run_test(tmp_path, metric)
        store = metric.store
        assert not store._buffers and not store._latest and store._gathered is None and store._originals is None


class TestPatchFid:
    def test_is_the_fid_of_the_patches(self, tmp_path):
        metric = PatchFid(RandomFeatures(4), patch_size=16)
        run_test(tmp_path, metric, data=loader(3, batch_size=3))
        data, extractor = TinyImages(3), RandomFeatures(4)
        extractor.prepare(torch.device("cpu"))
        images = torch.stack([data[i]["image"] for i in range(3)])
        features = []
        for side in (images, TinyCodec().code(images)):
            grids = [side.unfold(2, 16, 16).unfold(3, 16, 16), side[:, :, 8:, 8:].unfold(2, 16, 16).unfold(3, 16, 16)]
            patches = torch.cat([grid.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 16, 16) for grid in grids])
            features.append(extractor(patches))
        assert metric.summary["tiny"]["fid_patch16_random"] == pytest.approx(frechet_distance(*features), rel=1e-3)
        assert metric.details["tiny"]["fid_patch16_random"]["samples"] == 3 * 8
        assert metric.details["tiny"]["fid_patch16_random"]["images"] == 3

    def test_small_images_are_counted_and_not_available(self, tmp_path):
        def mixed() -> DataLoader:
            large = [TinyImages(2, side=48)[i] for i in range(2)]
            small = [{**TinyImages(5)[i], "name": f"small{i}.jpg"} for i in range(3)]
            return DataLoader(large + small, batch_size=1, collate_fn=collate)

        metric = PatchFid(RandomFeatures(4), patch_size=44)
        tester = trainer(tmp_path, metric, ResultRecord())
        tester.test(TinyCodec(), [mixed(), loader(2, dataset="small")], verbose=False)
        assert metric.details["tiny"]["fid_patch44_random"]["samples"] == 2
        reason = "smaller than the patches of 44 pixels"
        assert metric.not_available == {
            "tiny": {"fid_patch44_random": f"3 of 5 images: {reason}"},
            "small": {"fid_patch44_random": f"all images: {reason}"},
        }
        assert record(tmp_path, "small")["not_available"]["fid_patch44_random"] == f"all images: {reason}"
        assert "fid_patch44_random" not in record(tmp_path, "small")["mean"]

    def test_refuses_odd_patches(self):
        with pytest.raises(ValueError, match="not 255"):
            PatchFid(RandomFeatures(), patch_size=255)


class TestNotAvailable:
    def test_one_image(self, tmp_path):
        metrics = all_metrics()
        run_test(tmp_path, *metrics, data=loader(1, classes=1))
        for metric in metrics:
            assert metric.summary == {}
            assert metric.not_available["tiny"][metric.name] == f"{metric.name} needs at least 2 images, has 1"

    def test_nan_names_the_image(self, tmp_path):
        metrics = all_metrics()
        run_test(tmp_path, *metrics, model=Defective(), data=loader(5, classes=1))
        for metric in metrics:
            assert metric.summary == {}
            assert "features of im0.jpg are not finite" in metric.not_available["tiny"][metric.name]

    def test_labels(self, tmp_path):
        def reason(metric: ConFid, **data) -> str:
            run_test(tmp_path, metric, data=loader(**data))
            assert metric.summary == {}
            return metric.not_available["tiny"]["confid_random"]

        assert "5 of 5 images have no class" in reason(ConFid(RandomFeatures(6)), count=5)
        missing = reason(ConFid(RandomFeatures(6), num_classes=3), count=8, classes=2)
        assert missing == "classes [2] of num_classes = 3 have no image"
        unknown = reason(ConFid(RandomFeatures(6), num_classes=1), count=8, classes=2)
        assert unknown == "labels [1] are not among num_classes = 1 classes"
        assert reason(ConFid(RandomFeatures(6)), count=3, classes=2) == "classes [1] have fewer than 2 images"

    def test_floor_needs_more_than_the_figure(self, tmp_path):
        metric = ConFid(RandomFeatures(6), min_samples_per_class=3)
        run_test(tmp_path, metric, data=loader(3, classes=1))
        assert metric.summary["tiny"].keys() == {"confid_random"}
        assert metric.not_available["tiny"] == {"confid_floor_random": "classes [0] have fewer than 4 images"}

    def test_small_classes_are_told(self, tmp_path):
        metric = ConFid(RandomFeatures(6), min_samples_per_class=5)
        with pytest.warns(UserWarning, match=r"1 of 2 classes have fewer than 5 images \(class 1: 4\)"):
            run_test(tmp_path, metric, data=loader(9, classes=2))
        details = metric.details["tiny"]["confid_random"]
        assert details["classes_below_min_samples"] == [1] and details["min_samples_per_class"] == 5
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*classes have fewer")
            run_test(tmp_path, ConFid(RandomFeatures(6), min_samples_per_class=4), data=loader(9, classes=2))
            sanity = trainer(tmp_path, metric, num_sanity_val_steps=2, limit_val_batches=2, max_steps=1)
            with pytest.raises(UserWarning, match="fewer than 5"):  # in the validation, not in the sanity check
                sanity.fit(TinyCodec(), loader(1), loader(9, classes=1))
            assert sanity.global_step == 1

    def test_weights(self, tmp_path):
        missing = str(tmp_path / "inception.pth")
        metrics = [Fid(Inception(missing)), Kid(Inception(missing)), Cmmd(ClipVision(str(tmp_path / "clip")))]
        with pytest.warns(UserWarning, match="fid will be recorded as not available"):
            run_test(tmp_path, *metrics, ResultRecord())
        written = record(tmp_path)
        assert written["mean"].keys() & {"fid", "kid", "cmmd_clip"} == set()
        assert "callbacks.extractors.Inception.init_args.weights_path" in written["not_available"]["fid"]
        assert "callbacks.extractors.ClipVision.init_args.pretrained" in written["not_available"]["cmmd_clip"]
        assert written["protocols"]["kid"]["weights"] == "inception.pth"
        with pytest.raises(PretrainedError, match=r"inception\.pth"):
            run_test(tmp_path, Fid(Inception(missing), on_missing="raise"))

    def test_shapes_that_differ(self, tmp_path):
        class Cropping(TinyCodec):
            def code(self, image: Tensor) -> Tensor:
                return image[..., 1:]

        with pytest.raises(
            ValueError, match=r"tiny: originals \(1, 3, 40, 40\) and reconstructions \(1, 3, 40, 39\)"
        ):
            run_test(tmp_path, Fid(RandomFeatures(6)), model=Cropping())


class TestConfiguration:
    def test_from_yaml(self, tmp_path):
        (tmp_path / "config.yaml").write_text(
            """
callbacks:
  - class_path: callbacks.distribution.Fid
    init_args:
      extractor:
        class_path: callbacks.extractors.Inception
        init_args: {weights_path: inception.pth, resize: tf1_bilinear}
  - class_path: callbacks.distribution.Cmmd
    init_args:
      extractor:
        class_path: callbacks.extractors.ClipVision
        init_args: {projection: true}
      on_missing: raise
  - class_path: callbacks.distribution.Kid
"""
        )
        parser = ArgumentParser()
        parser.add_argument("--config", action="config")
        parser.add_argument("--callbacks", type=list[L.Callback])
        config = parser.parse_args(["--config", str(tmp_path / "config.yaml")])
        fid, clip, kid = parser.instantiate(config).callbacks
        assert isinstance(fid, Fid) and fid.extractor == Inception("inception.pth", "tf1_bilinear")
        assert fid.name == "fid_inception_tf1"
        assert clip.name == "cmmd_clip_vit_l14_336_projection" and clip.on_missing == "raise"
        assert kid.extractor == Inception() and kid.name == "kid"

    def test_customary_extractors_have_plain_names(self):
        names = [metric().name for metric in (Fid, PatchFid, Kid, Cmmd, ConFid)]
        assert names == ["fid", "fid_patch256", "kid", "cmmd", "confid"]
        assert feature_figure("fid", "random", "inception") == Fid(RandomFeatures()).name == "fid_random"


class UnevenBuffers(L.Callback):
    """Fills buffers unevenly on two processes, and writes what each of them gathers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rank = dist.get_rank()
        nothing, one_sided, uneven = FeatureBuffer(), FeatureBuffer(), FeatureBuffer()
        if rank == 1:
            one_sided.update(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([9, -4]), torch.tensor([1, 2]))
        for i in range(1 + 2 * rank):  # one sample on rank 0, three on rank 1, the first of them the same
            value = torch.full((1, 3), float(i))
            uneven.update(value, value + 10, torch.tensor([-i]))
        rows = [
            [features.real[:, :1].flatten().tolist(), features.key.tolist(), features.label.tolist()]
            for features in (nothing.compute(), one_sided.compute(), uneven.compute())
        ]
        (self.folder / f"rank{rank}.json").write_text(json.dumps(rows))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric FeatureBuffer was called before")
def test_two_processes_give_the_result_of_one(tmp_path):
    """9 images on 2 processes: the sampler repeats one, which must not count twice."""

    def metrics() -> list[L.Callback]:
        return [*all_metrics(), PatchFid(RandomFeatures(6), patch_size=16), ResultRecord()]

    run_test(tmp_path / "one", *metrics(), data=loader(9, classes=2))
    two = [*metrics(), UnevenBuffers(tmp_path)]
    run_test(tmp_path / "two", *two, data=loader(9, classes=2), strategy=two_processes(), devices=2)
    one, two = record(tmp_path / "one"), record(tmp_path / "two")
    assert {"fid_random", "kid_random", "cmmd_random", "confid_random", "confid_floor_random"} < one["mean"].keys()
    assert one["mean"].keys() > {"fid_patch16_random"}
    for key in ("mean", "not_available", "protocols"):
        assert one[key] == two[key]
    assert math.isfinite(one["mean"]["fid_patch16_random"])

    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    expected = [[[], [], []], [[1.0, 1.0], [-4, 9], [2, 1]], [[2.0, 1.0, 0.0], [-2, -1, 0], [-1, -1, -1]]]
    assert ranks == [expected, expected]
