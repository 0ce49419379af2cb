"""Both stages on street scenes: what is trained and frozen, resuming, and the whole through the command line."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import DigitsDataModule, StreetScenesDataModule
from lightning_modules.cli import main
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.conditional import ConditionalModule, MseTraining
from lightning_modules.critics.base import Critic
from lightning_modules.critics.oasis import OasisCritic
from lightning_modules.critics.patch import PatchCritic
from lightning_modules.critics.wasserstein import WassersteinCritic
from lightning_modules.errors import CheckpointError, SettingError
from lightning_modules.perceptual_decoder import AdversarialTraining, PerceptualDecoderModule
from lightning_modules.two_stage import TwoStageModule
from tests.conftest import quiet_trainer
from tests.street_helpers import CLASSES, picture, random_maps

STEPS = 3


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in CamVid's layout: 8 training and 3 test scenes of 70x130."""
    root = tmp_path_factory.mktemp("camvid")
    for split, count in (("train", 8), ("val", 3)):
        for i in range(count):
            seed = 100 * (split == "val") + i
            pixels = (picture(70, 130, seed)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            labels = random_maps(1, 70, 130, seed)[0].numpy().astype(np.uint8)
            for folder, array in ((split, pixels), (f"{split}annot", labels)):
                (root / folder).mkdir(exist_ok=True)
                Image.fromarray(array).save(root / folder / f"{i:03}.png")
    return root


def data(root: Path, **overrides: Any) -> StreetScenesDataModule:
    settings: dict[str, Any] = {"size": [70, 130], "crop_size": 64, "batch_size": 2, "val_images": 2, **overrides}
    return StreetScenesDataModule(layout="camvid", root=str(root), **settings)


def two_stage(classes: int = 12, critic: Critic | None = None, **adversarial: Any) -> TwoStageModule:
    torch.manual_seed(0)
    return TwoStageModule(
        ConditionalHyperprior(classes, N=8, M=12),
        stage1_epochs=1,
        lmbda=0.01,
        mse=MseTraining(optimizer="adam", gradient_clip_norm=1.0),
        critic=critic or OasisCritic(width=4),
        adversarial=AdversarialTraining(noise_dim=3, critic_warmup=1, critic_steps=1, **adversarial),
    )


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def fit(module: Any, folder: Path, root: Path, **overrides: Any) -> L.Trainer:
    checkpoint = overrides.pop("ckpt_path", None)
    trainer = quiet_trainer(
        folder, **{"max_epochs": 2, "limit_val_batches": 0, "gradient_clip_val": None, **overrides}
    )
    trainer.fit(module, datamodule=data(root), ckpt_path=checkpoint)
    return trainer


class AtStart(L.Callback):
    """Keeps the codec as it is when stage 2 begins."""

    codec: dict[str, torch.Tensor]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        if pl_module.second_stage_batches == 1:
            self.codec = state_of(pl_module.codec)
        pl_module.train()


@pytest.mark.parametrize(
    ("classes", "critic"),
    [(12, OasisCritic(width=4)), (0, OasisCritic(width=4)), (12, PatchCritic(width=4)), (0, PatchCritic(width=4))],
    ids=["oasis-map", "oasis", "patch-map", "patch"],
)
def test_stage_2_trains_g2_and_critic_and_leaves_the_codec(
    scenes: Path, tmp_path: Path, classes: int, critic: Critic
) -> None:
    module, watch = two_stage(classes, critic), AtStart()
    before = state_of(module)
    trainer = fit(module, tmp_path, scenes, callbacks=[watch])
    after = state_of(module)
    assert all(torch.equal(value, after[f"codec.{name}"]) for name, value in watch.codec.items())
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"codec", "g2", "critic", "ema"}
    moved = {name.split(".")[1] for name in after if name.startswith("codec.") and "quantiles" not in name}
    assert moved >= {"g_a", "g1", "h_a", "h_s", "prior"}
    assert trainer.global_step == 2 * STEPS


def test_g2_begins_as_g1_and_random_does_not() -> None:
    for start, equal in (("g1", True), ("random", False)):
        module = two_stage(start=start)
        module.begin_second_stage()
        code = module.codec.code(picture(64, 64), random_maps(1, 8, 8))
        pictures = module.codec.pictures(code, torch.tensor([1]), module.trained_g2())
        assert torch.equal(*pictures) == equal


class StopAfter(L.Callback):
    """Saves and fails after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)
            raise InterruptedError


def test_stopped_in_either_stage_and_resumed_equals_uninterrupted(scenes: Path, tmp_path: Path) -> None:
    whole = two_stage()
    fit(whole, tmp_path / "whole", scenes)
    checkpoint = None
    for stop in (2, STEPS + 2, None):
        part = two_stage()
        if checkpoint is not None:
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter)  # what is not in the checkpoint would show
        if stop is None:
            fit(part, tmp_path, scenes, ckpt_path=checkpoint)
            assert all(torch.equal(value, part.state_dict()[name]) for name, value in state_of(whole).items())
            return
        path = tmp_path / f"{stop}.ckpt"
        with pytest.raises(InterruptedError):
            fit(part, tmp_path, scenes, ckpt_path=checkpoint, callbacks=[StopAfter(stop, path)])
        checkpoint = path


def test_second_stage_alone_knows_lambda_and_takes_the_codec(scenes: Path, tmp_path: Path) -> None:
    first = two_stage()
    fit(first, tmp_path, scenes, max_epochs=1).save_checkpoint(tmp_path / "first.ckpt", weights_only=False)
    adversarial = AdversarialTraining(noise_dim=3, critic_warmup=1, critic_steps=1)
    with pytest.raises(ValueError, match="lmbda is None"):
        PerceptualDecoderModule(ConditionalHyperprior(12, N=8, M=12), critic=OasisCritic(width=4))
    second = PerceptualDecoderModule(
        ConditionalHyperprior(12, N=8, M=12),
        str(tmp_path / "first.ckpt"),
        lmbda=0.01,
        critic=OasisCritic(width=4),
        adversarial=adversarial,
    )
    fit(second, tmp_path / "second", scenes, max_epochs=1)
    assert all(torch.equal(value, second.codec.state_dict()[name]) for name, value in state_of(first.codec).items())
    assert second.result_identity()["lambda"] == second.setting()["lambda"] == 0.01
    wrong = PerceptualDecoderModule(
        ConditionalHyperprior(12, N=8, M=12), str(tmp_path / "first.ckpt"), lmbda=0.02, critic=OasisCritic(width=4)
    )
    with pytest.raises(CheckpointError, match=r"λ = 0\.01, but model\.lmbda is 0\.02.*--model\.lmbda 0\.01"):
        fit(wrong, tmp_path / "wrong", scenes, max_epochs=1)
    mistaken = two_stage(critic=OasisCritic(width=4, ignored_class=3))
    with pytest.raises(SettingError, match=r"ignored_class is 3, road in the data's table camvid12.*leave out 11"):
        fit(mistaken, tmp_path / "mistaken", scenes, max_epochs=1)


def test_the_coder_of_label_maps_is_fitted_once_to_the_training_maps(scenes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = ConditionalHyperprior(12, N=8, M=12)
    assert codec.label_prior is not None and not codec.label_prior.fitted
    module = ConditionalModule(codec, lmbda=0.01, mse=MseTraining(optimizer="adam"))
    fit(module, tmp_path, scenes, max_epochs=1)
    assert codec.label_prior.fitted
    fitted = state_of(codec.label_prior)
    fit(module, tmp_path, scenes, max_epochs=1)
    assert all(torch.equal(value, codec.label_prior.state_dict()[name]) for name, value in fitted.items())


def test_settings_that_cannot_be(scenes: Path, tmp_path: Path) -> None:
    codec = ConditionalHyperprior(12, N=8, M=12)
    for lmbda in (None, 0.0, -1.0):
        with pytest.raises(ValueError, match=f"lmbda is {lmbda}"):
            ConditionalModule(codec, lmbda=lmbda)
    with pytest.raises(SettingError, match=r"scores digits.*OasisCritic"):
        TwoStageModule(codec, lmbda=0.01, critic=WassersteinCritic())
    few = ConditionalModule(ConditionalHyperprior(CLASSES - 2, N=8, M=12), lmbda=0.01)
    with pytest.raises(SettingError, match=r"have 12 classes, but model\.codec\.classes is 3: set it to 12"):
        fit(few, tmp_path, scenes)
    with pytest.raises(SettingError, match="DigitsDataModule has no label maps"):
        quiet_trainer(tmp_path, max_epochs=1, gradient_clip_val=None).fit(few, datamodule=DigitsDataModule())


def test_fit_test_and_files_through_the_command_line(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = [
        *("-c", "configs/streets_two_stage.yaml", "-c", "configs/trainer/cpu.yaml", "-c", "configs/logger/csv.yaml"),
        *("--run_dir", str(run), "--data.root", str(scenes), "--data.size", "[70,130]", "--data.crop_size", "64"),
        *("--data.batch_size", "2", "--data.val_images", "2", "--trainer.max_epochs", "2"),
        *("--model.stage1_epochs", "1", "--model.codec.N", "8", "--model.codec.M", "12", "--model.critic.width", "4"),
        *("--model.adversarial.critic_warmup", "1", "--trainer.check_val_every_n_epoch", "2"),
        "--trainer.callbacks=[{class_path: callbacks.Bpp, init_args: {r_y_constant: 0.00742}}, "
        "{class_path: callbacks.Mse}, {class_path: callbacks.CodingTime}, {class_path: callbacks.ResultRecord}, "
        "{class_path: callbacks.Reconstructions}, {class_path: callbacks.LastCheckpoint}]",
    ]
    main(["fit", *small])
    main(["test", *small, "--model.realism", "[0.0, 0.5, 1.0]"])
    records = {p.stem: json.loads(p.read_text()) for p in (run / "results").glob("*.json")}
    assert len(records) == 3
    codec, _ = load_codec(run / "last.ckpt")
    assert isinstance(codec, ConditionalHyperprior) and codec.perceptual is not None
    for record in records.values():
        assert record["setting"]["lambda"] == record["lambda"] == 0.00125
        assert record["setting"]["side_information"] == "label map"
        assert record["training"]["critic"]["critic"] == "oasis"
        for row in record["images"]:
            pixels = 70 * 130
            assert row["bpp"] * pixels <= 1.01 * row["bpp_likelihood"] * pixels + 8 * 32
            expected = row["bpp"] - row["bpp_labels"] + 0.00742
            assert row["bpp_r_y_constant"] == pytest.approx(expected) and row["bpp_labels"] > 0
    # The same picture through compress and decompress, a size that is no multiple of 64, an eighth of it, or 8.
    source, maps, file = scenes / "val" / "000.png", scenes / "valannot", tmp_path / "000.bin"
    checkpoint = ["--checkpoint", str(run / "last.ckpt")]
    main(["compress", str(source), str(file), *checkpoint, "--label_maps", str(maps)])
    written = next((run / "bitstreams").rglob("000*"))
    assert file.read_bytes() == written.read_bytes()
    pictures = []
    for realism in ("0", "0.5", "1"):
        target = tmp_path / f"{realism}.png"
        main(["decompress", str(file), str(target), *checkpoint, "--realism", realism])
        pictures.append(np.asarray(Image.open(target)).astype(int))
        series = {"0": "g1", "0.5": "realism_0.5", "1": "g2"}[realism]
        tested = run / "reconstructions" / f"camvid-val-{series}" / "000.png"
        assert np.array_equal(pictures[-1], np.asarray(Image.open(tested)))
    assert pictures[0].shape == (70, 130, 3)
    assert np.abs(pictures[0] - pictures[1]).max() <= np.abs(pictures[0] - pictures[2]).max()


def test_label_maps_on_the_command_line_that_do_not_fit(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = ConditionalHyperprior(CLASSES, N=8, M=12)
    checkpoint = tmp_path / "last.ckpt"
    state = {f"codec.{name}": value for name, value in codec.state_dict().items()}
    torch.save({"codec": {"name": codec.name, "config": codec.config()}, "state_dict": state}, checkpoint)
    source = str(scenes / "val" / "000.png")

    def error(*options: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["compress", source, str(tmp_path / "x.bin"), "--checkpoint", str(checkpoint), *options])
        assert stopped.value.code and not (tmp_path / "x.bin").exists()
        return capsys.readouterr().err

    assert "give it with --label_maps" in error()
    assert "none.png does not exist" in error("--label_maps", str(tmp_path / "none.png"))
    assert "has colours" in error("--label_maps", source)
    for name, array in (
        ("small", np.zeros((5, 5), np.uint8)),
        ("classes", np.full((70, 130), CLASSES, np.uint8)),
    ):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    small = error("--label_maps", str(tmp_path / "small.png"))
    assert "small.png: is 5x5 where 000.png is 130x70: maps must have the image's height and width" in small
    assert "divided by 8, 17x9" in small
    wrong = error("--label_maps", str(tmp_path / "classes.png"))
    assert wrong.count("classes.png") == 1 and "data" not in wrong and "  " not in wrong
    assert f"classes.png: has class {CLASSES}, where this checkpoint's codec takes 0..{CLASSES - 1}: correct" in wrong
    Image.fromarray(np.zeros((70, 130), bool)).save(tmp_path / "bits.png")
    bits = error("--label_maps", str(tmp_path / "bits.png"))
    assert "bits.png: is black and white, 1 bit per pixel (mode 1)" in bits and "save it with 8 bits" in bits
    Image.fromarray(np.zeros((70, 130), np.float32)).save(tmp_path / "real.tiff")
    assert "is of float32 values (mode F)" in error("--label_maps", str(tmp_path / "real.tiff"))
