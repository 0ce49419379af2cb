"""The digit classifier: training, its checkpoint, and the metrics that judge with it."""

import json
from pathlib import Path
from typing import NamedTuple

import lightning as L
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy
from torchvision.models import resnet18

from callbacks import Accuracy, ConFid, Fid
from callbacks.classifiers import DigitClassifier
from callbacks.extractors.digit_features import DigitFeatures
from callbacks.metrics.conditional_frechet import conditional_frechet
from callbacks.metrics.frechet import frechet_distance
from datamodules import DigitsDataModule
from datamodules.batch import Batch
from lightning_modules.classifier import ClassifierModule
from lightning_modules.cli import main
from lightning_modules.digit_resnet import digit_resnet18, load_classifier
from lightning_modules.errors import PretrainedError
from lightning_modules.judge_checkpoint import weights_digest
from lightning_modules.step_output import StepOutput
from tests.conftest import ROOT, quiet_trainer, two_processes
from tests.judge_helpers import check_problems_of_files, problem
from tests.test_configs import parse

CPU = torch.device("cpu")
ON_EMBEDDED = [
    *("-c", "configs/digits_classifier.yaml", "-c", "configs/data/digits.yaml", "-c", "configs/logger/csv.yaml"),
    *("--trainer.accelerator", "cpu"),
]


class Trained(NamedTuple):
    module: ClassifierModule
    checkpoint: Path
    losses: list[float]


class Losses(L.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        self.seen.append(trainer.callback_metrics["train/loss"].item())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier after two epochs of the embedded digits."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    module, losses = ClassifierModule(), Losses()
    options = {"gradient_clip_val": None, "limit_val_batches": 0, "callbacks": [losses]}
    trainer = quiet_trainer(folder, max_epochs=2, **options)
    trainer.fit(module, datamodule=DigitsDataModule(batch_size=64))
    trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)
    return Trained(module.eval(), folder / "last.ckpt", losses.seen)


@pytest.fixture(scope="module")
def digits() -> Batch:
    """All embedded test digits."""
    return next(iter(DigitsDataModule(batch_size=359).test_dataloader()))


@torch.no_grad()
def by_hand(module: ClassifierModule, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and what reached the last layer on the way to them."""
    seen: list[Tensor] = []
    hook = module.network.fc.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    logits = module(images)
    hook.remove()
    return logits, seen[0]


class TestTraining:
    def test_network_is_torchvisions_for_one_channel(self) -> None:
        network = digit_resnet18()
        published = 11_689_512  # parameters of ResNet-18 on ImageNet, in torchvision's documentation
        count = sum(p.numel() for p in network.parameters())
        assert count == published - 2 * 64 * 7 * 7 - 990 * (512 + 1)
        assert (network.conv1.kernel_size, network.conv1.stride) == ((7, 7), (2, 2))

    def test_it_learns(self, trained: Trained, digits: Batch, tmp_path: Path) -> None:
        assert len(trained.losses) == 2 * ((1438 - 128) // 64)
        assert sum(trained.losses[-5:]) / 5 < 0.3 < 2 < trained.losses[0]
        logged = quiet_trainer(tmp_path).test(trained.module, DigitsDataModule(batch_size=100), verbose=False)[0]
        with torch.no_grad():
            logits = trained.module.eval()(digits["image"])
        expected = 100 * multiclass_accuracy(logits, digits["label"], num_classes=10, average="micro").item()
        assert logged == {"test/digits-test/accuracy": pytest.approx(expected, rel=1e-6)}
        assert expected > 70  # chance is 10

    def test_two_processes_measure_what_one_does(self, trained: Trained, tmp_path: Path) -> None:
        results = []
        for devices, strategy in ((1, "auto"), (2, two_processes())):
            trainer = quiet_trainer(tmp_path, devices=devices, strategy=strategy)
            results += trainer.test(trained.module, DigitsDataModule(batch_size=100), verbose=False)
        assert results[0] == pytest.approx(results[1], rel=1e-6)

    def test_from_the_command_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
        monkeypatch.chdir(ROOT)
        args = [*ON_EMBEDDED, "--run_dir", str(tmp_path / "run")]
        main(["fit", *args, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"])
        columns = (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
        assert "val/digits/accuracy" in columns
        load_classifier(tmp_path / "run" / "last.ckpt")
        capsys.readouterr()
        main(["test", *args])
        assert "test/digits-test/accuracy" in capsys.readouterr().out

    def test_config_is_the_papers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        config = parse("-c", "configs/digits_classifier.yaml")
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        assert (model["learning_rate"], model["momentum"], model["classes"]) == (0.01, 0.9, 10)
        assert (data["batch_size"], data["val_images"], config["trainer"]["max_epochs"]) == (128, 0, 10)


class TestCheckpoint:
    def test_gives_equal_logits_without_configuration(self, trained: Trained, digits: Batch) -> None:
        torch.manual_seed(7)
        state = torch.get_rng_state()
        network, digest = load_classifier(trained.checkpoint)
        assert torch.equal(torch.get_rng_state(), state), "loading draws nothing from the global generator"
        assert torch.equal(network(digits["image"]), by_hand(trained.module, digits["image"])[0])
        assert not any(p.requires_grad for p in network.parameters())
        assert not network.training
        noted = torch.load(trained.checkpoint, weights_only=True)["classifier"]
        assert noted == {"name": "resnet18", "classes": 10, "sha": digest}

    def test_digest_names_the_tensors(self) -> None:
        state = {"a": torch.arange(4.0), "b": torch.tensor(3)}
        digest = weights_digest(state)
        assert digest == weights_digest({"b": state["b"], "a": torch.arange(4.0)})
        others = [
            {**state, "a": torch.tensor([0, 1, 2, 3.0001])},
            {**state, "a": torch.arange(4)},
            {**state, "a": torch.arange(4.0).view(2, 2)},
            {"c": state["a"], "b": state["b"]},
        ]
        assert digest not in {weights_digest(other) for other in others}

    def test_training_refuses_other_checkpoints(
        self, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(ROOT)
        checkpoint = torch.load(trained.checkpoint, weights_only=True)
        del checkpoint["classifier"]
        torch.save(checkpoint, tmp_path / "foreign.ckpt")
        test = ["test", *ON_EMBEDDED, "--run_dir", str(tmp_path), "--ckpt_path"]
        for args, message in (
            ([str(tmp_path / "foreign.ckpt")], "the checkpoint holds no digit classifier"),
            ([str(trained.checkpoint), "--model.classes", "7"], "has 10 classes, but the configuration asks for 7"),
        ):
            with pytest.raises(SystemExit) as exit_:
                main([*test, *args])
            assert exit_.value.code == 2
            assert message in capsys.readouterr().err

    def test_errors_name_file_setting_and_remedy(self, trained: Trained, tmp_path: Path) -> None:
        foreign = (resnet18().state_dict(), {"codec": {"name": "taco", "config": {}}, "state_dict": {}}, [1, 2])
        check_problems_of_files(
            load_classifier,
            trained.checkpoint,
            tmp_path,
            part="digit classifier",
            config="configs/digits_classifier.yaml",
            bias="network.fc.bias",
            foreign=foreign,
        )
        whole = torch.load(trained.checkpoint, weights_only=True)
        other = {**whole, "classifier": {**whole["classifier"], "name": "vgg16"}}
        told = "holds a classifier 'vgg16', where this program knows 'resnet18'"
        assert told in problem(load_classifier, tmp_path / "vgg.ckpt", other)


class TestNetworks:
    def test_features_are_the_input_of_the_last_layer(self, trained: Trained, digits: Batch) -> None:
        extractor = DigitFeatures(str(trained.checkpoint))
        extractor.prepare(CPU)
        features = extractor(digits["image"])
        logits, expected = by_hand(trained.module, digits["image"])
        assert features.shape == (359, 512)
        assert torch.equal(features, expected)
        classifier = DigitClassifier(str(trained.checkpoint))
        classifier.prepare(CPU)
        assert torch.equal(classifier(digits["image"]), logits)
        layer = trained.module.network.fc
        torch.testing.assert_close(F.linear(features, layer.weight, layer.bias), logits)

    def test_repeated_channels_are_one(self, trained: Trained, digits: Batch) -> None:
        classifier, extractor = DigitClassifier(str(trained.checkpoint)), DigitFeatures(str(trained.checkpoint))
        images = digits["image"][:8]
        for network in (classifier, extractor):
            network.prepare(CPU)
            assert torch.equal(network(images), network(images.expand(-1, 3, -1, -1)))
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(network(images), network(images.expand(-1, 3, -1, -1)))
                inside = network(images)
            assert torch.equal(inside, network(images))
            with pytest.raises(ValueError, match="three channels must be equal"):
                network(torch.rand(2, 3, 32, 32))
            with pytest.raises(ValueError, match=r"not \(2, [13], 28, 28\)"):
                network(torch.rand(2, 1, 28, 28))
        bad = images.clone()
        bad[1, 0, 0, 0] = torch.nan
        features = extractor(bad)
        assert features[1].isnan().all()
        assert torch.equal(features[0], extractor(images)[0])

    def test_protocols_name_the_weights_and_not_the_file(self, trained: Trained, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere.ckpt"
        moved.write_bytes(trained.checkpoint.read_bytes())
        digest = load_classifier(moved).digest
        for kind in (DigitClassifier, DigitFeatures):
            here, there = kind(str(trained.checkpoint)), kind(str(moved))
            assert here.protocol()["weights"] is None
            here.prepare(CPU)
            there.prepare(CPU)
            assert here.protocol() == there.protocol()
            assert here.protocol()["weights"] == f"sha256 {digest[:16]}"
            assert str(tmp_path) not in json.dumps(there.protocol())

    def test_extractors_of_one_file_are_equal_loaded_or_not(self, trained: Trained, tmp_path: Path) -> None:
        loaded, fresh = DigitFeatures(str(trained.checkpoint)), DigitFeatures(str(trained.checkpoint))
        before = hash(loaded)
        loaded.prepare(CPU)
        assert loaded == fresh
        assert hash(loaded) == hash(fresh) == before
        assert loaded != DigitFeatures(str(tmp_path / "other.ckpt"))


class Coarse(L.LightningModule):
    """A codec of digits with three grey levels, whose every fourth picture is empty."""

    def code(self, images: Tensor) -> Tensor:
        coarse = (images * 2).round() / 2
        return torch.where(torch.arange(len(images))[:, None, None, None] % 4 == 0, 0, coarse).mul(255).round() / 255

    def test_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        bits = torch.full((len(batch["name"]),), 8.0, dtype=torch.float64)
        return {
            "dataset": batch["dataset"],
            "name": batch["name"],
            "image": batch["image"],
            "x_hat": self.code(batch["image"]),
            "bits": bits,
            "likelihood_bits": {"code": bits},
            "label": batch["label"],
        }


class TestMetrics:
    def test_equal_figures_by_hand(self, trained: Trained, digits: Batch, tmp_path: Path) -> None:
        path = str(trained.checkpoint)
        accuracy = Accuracy(DigitClassifier(path), on_missing="raise")
        metrics = [Fid(DigitFeatures(path)), ConFid(DigitFeatures(path), min_samples_per_class=2, num_classes=10)]
        trainer = quiet_trainer(tmp_path, callbacks=[accuracy, *metrics])
        logged = trainer.test(Coarse(), DigitsDataModule(batch_size=100), verbose=False)[0]
        codec = Coarse()
        coded = torch.cat([codec.code(part) for part in digits["image"].split(100)])
        logits, real = by_hand(trained.module, digits["image"])
        coded_logits, fake = by_hand(trained.module, coded)
        expected = {
            "accuracy": 100 * (coded_logits.argmax(dim=1) == digits["label"]).double().mean().item(),
            "accuracy_original": 100 * (logits.argmax(dim=1) == digits["label"]).double().mean().item(),
            "fid_digits_resnet18": frechet_distance(real, fake),
            "confid_digits_resnet18": conditional_frechet(real, fake, digits["label"]).value,
        }
        found = {name: logged[f"test/digits-test/{name}"] for name in expected}
        assert found == pytest.approx(expected, rel=1e-3)
        assert found["accuracy"] < found["accuracy_original"] - 10
        assert logged["test/digits-test/confid_floor_digits_resnet18"] < found["confid_digits_resnet18"]
        assert metrics[0].extractor is metrics[1].extractor, "one network for both"
        digest = load_classifier(path).digest[:16]
        assert {m.protocol()["weights"] for m in (accuracy, *metrics)} == {f"sha256 {digest}"}

    def test_missing_classifier_is_recorded_or_raised(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "none.ckpt")
        metrics = [Accuracy(DigitClassifier(missing)), Fid(DigitFeatures(missing))]
        with pytest.warns(UserWarning, match="will be recorded as not available"):
            quiet_trainer(tmp_path, callbacks=metrics).test(Coarse(), DigitsDataModule(), verbose=False)
        for metric in metrics:
            reason = metric.not_available["digits-test"][metric.name]
            assert "none.ckpt" in reason and "init_args.checkpoint" in reason and "makes one" in reason
            assert not metric.summary
        strict = quiet_trainer(tmp_path, callbacks=[Accuracy(DigitClassifier(missing), on_missing="raise")])
        with pytest.raises(PretrainedError, match="does not exist"):
            strict.test(Coarse(), DigitsDataModule(), verbose=False)

    def test_from_yaml(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def overlay(init_args: dict) -> str:
            classifier = {"class_path": "callbacks.classifiers.DigitClassifier", "init_args": init_args}
            metric = {"class_path": "callbacks.Accuracy", "init_args": {"classifier": classifier}}
            path = tmp_path / "overlay.yaml"
            path.write_text(yaml.safe_dump({"trainer": {"callbacks+": [metric]}}))
            return str(path)

        monkeypatch.chdir(ROOT)
        main_config = ("-c", "configs/digits_classifier.yaml")
        config = parse(*main_config, "-c", overlay({"checkpoint": "runs/digits_classifier/last.ckpt"}))
        classifier = config["trainer"]["callbacks"][-1]["init_args"]["classifier"]
        assert classifier["init_args"] == {"checkpoint": "runs/digits_classifier/last.ckpt", "make": None}
        with pytest.raises(SystemExit):
            parse(*main_config, "-c", overlay({}))
