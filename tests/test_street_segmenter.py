"""The street segmenter: random views, loss, training, its checkpoint, and the metric that judges with it."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_jaccard_index

from callbacks.street_segmenter import StreetSegmenter
from callbacks.tasks import MeanIou
from datamodules.street_classes import NO_CLASS, TABLES
from datamodules.street_scenes import StreetScenesDataModule
from lightning_modules.cli import main
from lightning_modules.codecs.keyed_noise import keyed_uniform
from lightning_modules.errors import PretrainedError, SettingError
from lightning_modules.judge_checkpoint import unfinished
from lightning_modules.segmentation import SegmentationModule, balanced_cross_entropy
from lightning_modules.segmentation_augmentation import random_colours, random_windows
from lightning_modules.segmentation_network import StreetUNet, load_segmenter
from tests.conftest import ROOT, quiet_trainer, two_processes
from tests.judge_helpers import check_problems_of_files, problem

CPU = torch.device("cpu")
HEIGHT, WIDTH = 64, 96
COLOURS = np.random.default_rng(5).integers(30, 226, (12, 3))


def blocks(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of eight columns of three blocks, each of a random class and painted in the colour of its class."""
    random = np.random.default_rng(number)
    labels = np.kron(random.integers(0, 12, (3, 4)), np.ones((22, 24), dtype=np.int64))[:HEIGHT, :WIDTH].astype("u1")
    noise = random.normal(0, 5, (HEIGHT, WIDTH, 3))
    return (COLOURS[labels] + noise).clip(0, 255).astype("u1"), labels


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such pictures in the layout of CamVid: sixteen to train on and six to test on."""
    folder = tmp_path_factory.mktemp("streets") / "camvid"
    for split, first, count in (("train", 0, 16), ("val", 100, 6)):
        for kind in (split, f"{split}annot"):
            (folder / kind).mkdir(parents=True)
        for number in range(first, first + count):
            for kind, pixels in zip((split, f"{split}annot"), blocks(number), strict=True):
                Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    return folder


def scenes(root: Path, **kwargs: Any) -> StreetScenesDataModule:
    settings = {"size": (HEIGHT, WIDTH), "batch_size": 4, "val_images": 4, "num_workers": 1}
    return StreetScenesDataModule("camvid", str(root), **{**settings, **kwargs})


class Trained(NamedTuple):
    module: SegmentationModule
    checkpoint: Path
    logged: dict[str, float]


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A segmenter after 30 epochs of the blocks."""
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    module = SegmentationModule(zoom=1.3, colours=0.1)
    options = {"gradient_clip_val": None, "max_epochs": 30, "check_val_every_n_epoch": 30, "num_sanity_val_steps": 0}
    trainer = quiet_trainer(folder, **options)
    trainer.fit(module, datamodule=scenes(root))
    trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Trained(module.eval(), folder / "last.ckpt", logged)


@torch.no_grad()
def miou_by_hand(module: SegmentationModule, batches: DataLoader) -> float:
    """Of all pixels together, by torchmetrics, with void left out by hand."""
    kept: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        for image, labels in zip(batch["image"], batch["segmentation"], strict=True):
            counted = labels != 11
            kept.append((module(image[None])[0].argmax(0)[counted], labels[counted]))
    prediction, target = (torch.cat(part) for part in zip(*kept, strict=True))
    return 100 * multiclass_jaccard_index(prediction, target, num_classes=11).item()


class TestViews:
    def test_windows_equal_a_plain_reference(self) -> None:
        torch.manual_seed(0)
        images, target, keys = torch.rand(8, 3, 12, 20), torch.randint(0, 256, (8, 12, 20)), torch.arange(8) * 7919
        seen, labels = random_windows(images, target, keys, 2.5)
        assert (seen.shape, labels.shape, labels.dtype) == ((8, 3, 12, 20), (8, 12, 20), torch.int64)
        draws = keyed_uniform(keys, 3, 0x5E6A)
        checked = 0
        for b in range(8):
            extent = 1 / math.exp(math.log(2.5) * float(draws[b, 0]))
            left, top = 20 * (1 - extent) * float(draws[b, 1]), 12 * (1 - extent) * float(draws[b, 2])
            for row in range(12):
                for column in range(20):
                    y, x = top + (row + 0.5) * extent, left + (column + 0.5) * extent
                    if min(abs(v - round(v)) for v in (x, y)) < 1e-3:
                        continue  # between two pixels, where rounding decides
                    checked += 1
                    assert labels[b, row, column] == target[b, int(y), int(x)]
                    v, u = min(max(y - 0.5, 0), 11), min(max(x - 0.5, 0), 19)
                    (v0, dv), (u0, du) = ((int(w), w - int(w)) for w in (v, u))
                    v1, u1 = min(v0 + 1, 11), min(u0 + 1, 19)
                    expected = (1 - dv) * ((1 - du) * images[b, :, v0, u0] + du * images[b, :, v0, u1])
                    expected += dv * ((1 - du) * images[b, :, v1, u0] + du * images[b, :, v1, u1])
                    assert torch.allclose(seen[b, :, row, column], expected, atol=1e-4)
        assert checked > 0.95 * target.numel()
        unchanged = random_windows(images, target, keys, 1.0)
        assert torch.equal(unchanged[1], target) and torch.allclose(unchanged[0], images, atol=1e-5)

    def test_views_are_a_function_of_the_key_alone(self) -> None:
        torch.manual_seed(0)
        images, target, keys = torch.rand(4, 3, 32, 32), torch.randint(0, 11, (4, 32, 32)), torch.arange(4)
        state = torch.get_rng_state()
        windows = random_windows(images, target, keys, 2.0)
        coloured = random_colours(images, keys, 0.3)
        assert torch.equal(torch.get_rng_state(), state)
        order = torch.tensor([2, 0, 3, 1])
        for ours, theirs in zip(
            (*windows, coloured),
            (
                *random_windows(images[order], target[order], keys[order], 2.0),
                random_colours(images[order], keys[order], 0.3),
            ),
            strict=True,
        ):
            torch.testing.assert_close(ours[order], theirs)
        assert not torch.equal(windows[0], random_windows(images, target, keys + 4, 2.0)[0])

    def test_colours_equal_a_plain_reference(self) -> None:
        torch.manual_seed(0)
        images, keys = torch.rand(5, 3, 6, 7), torch.arange(5) + 100
        found = random_colours(images, keys, 0.4)
        assert torch.allclose(random_colours(images, keys, 0.0), images, atol=1e-6)
        for b, (u, v, w) in enumerate(keyed_uniform(keys, 3, 0x5E6B).tolist()):
            brightness, contrast, saturation = (0.6 + 0.8 * each for each in (u, v, w))
            lit = images[b].double() * brightness
            mean = sum(f * lit[c].mean() for c, f in enumerate((0.299, 0.587, 0.114)))
            lit = mean + contrast * (lit - mean)
            for row in range(6):
                for column in range(7):
                    r, g, blue = lit[:, row, column].tolist()
                    grey = 0.299 * r + 0.587 * g + 0.114 * blue
                    expected = [min(max(grey + saturation * (c - grey), 0), 1) for c in (r, g, blue)]
                    assert found[b, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)


class TestTraining:
    def test_loss_equals_a_plain_reference(self) -> None:
        torch.manual_seed(0)
        logits, target = torch.randn(2, 4, 5, 6, requires_grad=True), torch.randint(0, 3, (2, 5, 6))
        target[0, :2] = NO_CLASS
        target[1, :4] = 0
        counts = {c: sum(int(value) == c for value in target.flatten()) for c in range(3)}  # class 3 does not occur
        weighted = total = 0.0
        for b in range(2):
            for row in range(5):
                for column in range(6):
                    c = int(target[b, row, column])
                    if c != NO_CLASS:
                        weight = 1 / math.sqrt(counts[c])
                        weighted -= weight * math.log(
                            float(logits.detach()[b, :, row, column].double().softmax(0)[c])
                        )
                        total += weight
        loss = balanced_cross_entropy(logits, target, NO_CLASS)
        assert loss.item() == pytest.approx(weighted / total, rel=1e-5)
        loss.backward()
        assert logits.grad is not None and not logits.grad[0, :, :2].any() and logits.grad[0, :, 2:].any()
        assert balanced_cross_entropy(logits, torch.full_like(target, NO_CLASS), NO_CLASS).item() == 0

    def test_network_is_small_and_takes_any_size(self) -> None:
        network = StreetUNet(11).eval()
        assert sum(p.numel() for p in network.parameters()) < 1_000_000
        x = torch.rand(1, 3, 37, 50)
        with torch.no_grad():
            assert network(x).shape == (1, 11, 37, 50)
            padded = F.pad(x, (0, 14, 0, 11), mode="replicate")
            torch.testing.assert_close(network(x), network(padded)[..., :37, :50])

    def test_it_learns_and_measures_what_torchmetrics_does(
        self, trained: Trained, root: Path, tmp_path: Path
    ) -> None:
        data = scenes(root, batch_size=3)
        measured = quiet_trainer(tmp_path).test(trained.module, data, verbose=False)[0]
        expected = miou_by_hand(trained.module, data.test_dataloader())
        assert measured == {"test/camvid-val/miou": pytest.approx(expected, rel=1e-5)}
        assert expected > 60  # chance is under 5
        held_out = miou_by_hand(trained.module, data.val_dataloader())
        assert trained.logged["val/camvid-train/miou"] == pytest.approx(held_out, rel=1e-5)

    def test_two_processes_measure_what_one_does(self, trained: Trained, root: Path, tmp_path: Path) -> None:
        results = []
        for devices, strategy in ((1, "auto"), (2, two_processes())):
            trainer = quiet_trainer(tmp_path, devices=devices, strategy=strategy)
            results += trainer.test(trained.module, scenes(root), verbose=False)
        assert results[0] == pytest.approx(results[1], rel=1e-6)

    def test_from_the_command_line(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(ROOT)
        args = [
            "-c",
            "configs/streets_segmenter.yaml",
            "-c",
            "configs/logger/csv.yaml",
            "--trainer.accelerator",
            "cpu",
        ]
        args += ["--run_dir", str(tmp_path / "run"), "--data.root", str(root), "--data.size", f"[{HEIGHT}, {WIDTH}]"]
        args += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
        main(["fit", *args])
        last, config = tmp_path / "run" / "last.ckpt", tmp_path / "run" / "config.yaml"
        assert load_segmenter(last).table is TABLES["camvid12"] and unfinished(last) is None
        text = config.read_text()
        config.write_text(text.replace("max_epochs: 1\n", "max_epochs: 2\n"))  # as if it had been interrupted
        with pytest.warns(UserWarning, match=r"street segmenter: the training of .* has only come to epoch 1 of 2"):
            load_segmenter(last)
        config.write_text(text)
        capsys.readouterr()
        main(["test", *args])
        assert "test/camvid-val/miou" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            main(["test", *args, "--model.class_table", "cityscapes34"])
        assert "is of the classes camvid12, but the configuration asks for cityscapes34" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"class_table": "kitti"}, r"class_table is 'kitti': set --model.class_table to cityscapes34, "),
            ({"zoom": 0.5}, r"zoom=0.5.*set --model.zoom to 1 or more"),
            ({"colours": 1.5}, r"colours=1.5"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingError, match=message):
            SegmentationModule(**settings)


class TestCheckpoint:
    def test_gives_equal_logits_without_configuration(self, trained: Trained) -> None:
        state = torch.get_rng_state()
        network, table, digest = load_segmenter(trained.checkpoint)
        assert torch.equal(torch.get_rng_state(), state), "loading draws nothing from the global generator"
        x = torch.rand(2, 3, HEIGHT, WIDTH)
        with torch.no_grad():
            assert torch.equal(network(x), trained.module(x))
        assert not any(p.requires_grad for p in network.parameters()) and not network.training
        noted = torch.load(trained.checkpoint, weights_only=True)["segmenter"]
        assert noted == {"name": "street_unet", "class_table": "camvid12", "sha": digest}
        assert table is TABLES["camvid12"]

    def test_errors_name_file_setting_and_remedy(self, trained: Trained, tmp_path: Path) -> None:
        check_problems_of_files(
            load_segmenter,
            trained.checkpoint,
            tmp_path,
            part="street segmenter",
            config="configs/streets_segmenter.yaml",
            bias="network.head.bias",
            foreign=({"codec": {}, "state_dict": {}}, [1, 2]),
        )
        whole = torch.load(trained.checkpoint, weights_only=True)
        for change, told in (
            ({"name": "segformer"}, "'segformer', where this program knows 'street_unet'"),
            ({"class_table": "kitti"}, "class table 'kitti' is none of cityscapes34, "),
        ):
            other = {**whole, "segmenter": {**whole["segmenter"], **change}}
            assert told in problem(load_segmenter, tmp_path / "other.ckpt", other)


class Coded(L.LightningModule):
    """Hands originals on, with darker ones as reconstructions, and label maps at an eighth as a codec has them."""

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        x_hat = (batch["image"] * 0.7 * 255).round() / 255
        labels = batch["segmentation"][:, ::8, ::8]
        return {key: batch[key] for key in ("dataset", "name", "image")} | {"x_hat": x_hat, "segmentation": labels}


class TestMetric:
    def test_mean_iou_of_originals_and_reconstructions(self, trained: Trained, root: Path, tmp_path: Path) -> None:
        data = scenes(root)
        metric = MeanIou(StreetSegmenter(str(trained.checkpoint)))
        trainer = quiet_trainer(tmp_path, callbacks=[metric])
        trainer.test(Coded(), data, verbose=False)
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name, gain in (("miou", 0.7), ("miou_original", 1.0)):
            predictions, targets = [], []
            for batch in data.test_dataloader():
                labels = batch["segmentation"][:, ::8, ::8]
                shown = batch["image"] if gain == 1.0 else (batch["image"] * gain * 255).round() / 255
                with torch.no_grad():
                    logits = F.interpolate(trained.module(shown), labels.shape[-2:], mode="bilinear")
                predictions.append(logits.argmax(1)[labels != 11])
                targets.append(labels[labels != 11])
            expected = multiclass_jaccard_index(torch.cat(predictions), torch.cat(targets), num_classes=11)
            assert found[f"test/camvid-val/{name}"] == pytest.approx(100 * expected.item(), rel=1e-5)
        assert found["test/camvid-val/miou"] < found["test/camvid-val/miou_original"]

    def test_segmenter(self, trained: Trained, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere.ckpt"
        moved.write_bytes(trained.checkpoint.read_bytes())
        segmenter = StreetSegmenter(str(moved), make="fit -c configs/there_is_no_such_file.yaml")
        assert segmenter.protocol()["weights"] is None
        segmenter.prepare(CPU)
        assert segmenter.classes == list(TABLES["camvid12"].names[:11])
        protocol = segmenter.protocol()
        assert protocol["weights"] == f"sha256 {load_segmenter(moved).digest[:16]}"
        assert protocol["classes"] == "camvid12" and str(tmp_path) not in json.dumps(protocol)
        images = torch.rand(2, 3, HEIGHT, WIDTH)
        with torch.no_grad():
            expected = trained.module(images).argmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(segmenter(images, (HEIGHT, WIDTH)), expected)
        assert segmenter(images, (8, 12)).shape == (2, 8, 12)
        assert segmenter.labels(torch.arange(12)[None, None]).flatten().tolist() == [*range(11), NO_CLASS]
        with pytest.raises(ValueError, match="these reach from 0 to 33"):
            segmenter.labels(torch.arange(34)[None, None])
        with pytest.raises(ValueError, match=r"takes images \(B, 3, H, W\), not \(2, 1, 64, 96\)"):
            segmenter(images[:, :1], (8, 12))

    def test_a_missing_checkpoint_is_made_or_named(self, tmp_path: Path) -> None:
        setting = "callbacks.street_segmenter.StreetSegmenter.init_args.checkpoint"
        with pytest.raises(PretrainedError, match=f"given by {setting}.* does not exist; `fit -c configs/streets"):
            StreetSegmenter(str(tmp_path / "none.ckpt")).prepare(CPU)
        with pytest.raises(PretrainedError, match="the command that should make it ended with code"):
            StreetSegmenter(str(tmp_path / "none.ckpt"), make="fit -c no_such_config.yaml").prepare(CPU)
