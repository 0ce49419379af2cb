"""What captions are worth: the same images coded with other captions, and TACO without its adapter."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import callbacks as cb
from datamodules.caption_variants import caption_variants
from datamodules.errors import DataError
from datamodules.samples import Sample
from lightning_modules.cli import main
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.elic import ElicCodec
from lightning_modules.codecs.taco import TacoCodec
from lightning_modules.errors import CheckpointError
from lightning_modules.losses.perceptual import LpipsPart
from lightning_modules.reports.curves import load_curves
from lightning_modules.taco import ElicModule, TacoModule
from tests.conftest import SMALL, quiet_trainer, small_taco
from tests.data_helpers import folder_module, write_captioned_folder, write_images

KINDS = ("given", "shuffled", "constant", "empty")


def samples(count: int) -> list[Sample]:
    return [Sample(f"{n}.png", Path(f"{n}.png"), (f"caption {n}", "another")) for n in range(count)]


@pytest.mark.parametrize("count", [2, 3, 24])
def test_every_image_gets_another_ones_caption(count: int) -> None:
    variants = caption_variants(samples(count))
    assert tuple(variants) == KINDS
    assert variants["given"] == [f"caption {n}" for n in range(count)]
    assert sorted(variants["shuffled"]) == sorted(variants["given"])
    assert all(own != other for own, other in zip(variants["given"], variants["shuffled"], strict=True))
    assert set(variants["constant"]) == {"NA"} and set(variants["empty"]) == {""}
    assert len(variants["constant"]) == len(variants["empty"]) == count


def test_images_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two or more images, each with a caption: of 1 there are no two"):
        caption_variants(samples(1))
    with pytest.raises(DataError, match=r"of 3 there are 1 without a caption \(none.png\).*--data.captions_file"):
        caption_variants([*samples(2), Sample("none.png", Path("none.png"))])
    data = folder_module(write_captioned_folder(tmp_path), test_captions="ablation")
    assert "caption_variants" not in next(iter(data.train_dataloader()))
    batch = next(iter(data.test_dataloader()))
    assert {kind: len(captions) for kind, captions in batch["caption_variants"].items()} == dict.fromkeys(KINDS, 1)
    assert batch["caption"] == batch["caption_variants"]["given"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs with captions."""
    names = write_images(tmp_path / "photos", 3, (64, 64))
    (tmp_path / "captions.json").write_text(json.dumps({name: [f"this is {name}"] for name in names}))
    return tmp_path / "photos"


def small_elic() -> ElicModule:
    torch.manual_seed(1)
    return ElicModule(lmbda=0.01, **SMALL)


def run_test(run_dir: Path, module: L.LightningModule, data: L.LightningDataModule) -> dict[str, Any]:
    """The records of a test."""
    trainer = quiet_trainer(run_dir, callbacks=[cb.Bpp(), cb.Psnr(), cb.ResultRecord()])
    trainer.test(module, datamodule=data, verbose=False)
    return {path.stem: json.loads(path.read_text()) for path in (run_dir / "results").glob("*.json")}


def test_one_test_codes_each_image_with_each_caption(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = small_taco()
    for name, parameter in module.codec.named_parameters():
        if name.endswith("gamma"):  # zero at first, so that an untrained encoder does not listen
            torch.nn.init.constant_(parameter, 10.0)
    data = folder_module(folder, test_captions="ablation")
    records = run_test(tmp_path / "ablation", module, data)
    assert set(records) == {f"photos-{kind}" for kind in KINDS}
    printed = capsys.readouterr().out
    assert all(f" {kind} " in printed for kind in KINDS)
    for kind in KINDS:
        written = records[f"photos-{kind}"]
        assert (written["dataset"], written["captions"]) == ("photos", kind)
        assert written["setting"]["captions"] == f"{kind} captions"
        assert "decoder" not in written
    captions = {kind: [row["caption"] for row in records[f"photos-{kind}"]["images"]] for kind in KINDS}
    assert captions["given"] != captions["shuffled"] and sorted(captions["given"]) == sorted(captions["shuffled"])
    assert set(captions["empty"]) == {""}

    plain = run_test(tmp_path / "plain", module, folder_module(folder))["photos"]
    assert plain["mean"]["psnr"] == records["photos-given"]["mean"]["psnr"]
    pictures = {kind: [row["psnr"] for row in records[f"photos-{kind}"]["images"]] for kind in KINDS}
    assert len(set(map(tuple, pictures.values()))) == len(KINDS), "the encoder reads what it is given"

    # An image with another's caption is coded as if that were its own.
    rows = records["photos-shuffled"]["images"]
    exchanged = {row["name"]: [row["caption"]] for row in rows}
    (tmp_path / "captions.json").write_text(json.dumps(exchanged))
    swapped = run_test(tmp_path / "swapped", module, folder_module(folder))["photos"]
    assert [row["psnr"] for row in swapped["images"]] == [row["psnr"] for row in rows]

    curves = {curve.codec for curve in load_curves([tmp_path / "ablation", tmp_path / "plain"])}
    assert curves == {"taco"} | {f"taco ({kind} captions)" for kind in KINDS}


class TestWithoutAdapter:
    def test_elic_under_the_same_loss(self) -> None:
        module = small_taco(adapter=False, k_j=0.1)
        assert type(module.codec) is ElicCodec and type(small_taco().codec) is TacoCodec
        batch = {"image": torch.rand(2, 3, 64, 64), "caption": ["a cat", "a dog"], "key": torch.tensor([1, 2])}
        y = module.side_information(batch["caption"], 2)
        out = module.codec(batch["image"], y, batch["key"])
        loss, report = module._rate_and_loss(batch, y, out)
        assert report["term_joint_contrastive"] > 0
        (loss + module.codec.auxiliary_loss()).backward()
        # DDP stops at parameters that no gradient reaches.
        assert all(p.grad is not None for p in module.parameters() if p.requires_grad)

    def test_its_files_need_no_caption(
        self, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        module = small_taco(adapter=False)
        trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0, limit_train_batches=1)
        data = folder_module(folder, val_images=1, crop_size=64, batch_size=1)
        trainer.fit(module, datamodule=data)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        codec, text_encoder = load_codec(tmp_path / "last.ckpt")
        assert codec.name == "elic" and text_encoder is None
        picture = next(folder.glob("*.png"))
        files = [str(picture), str(tmp_path / "x.elic"), "--checkpoint", str(tmp_path / "last.ckpt")]
        assert main(["compress", *files]) in (0, None)
        with pytest.raises(SystemExit):
            main(["compress", *files, "--force", "--caption", "a cat"])
        assert "which reads no caption" in capsys.readouterr().err

    def test_ablations_are_curves_of_their_own(self, tmp_path: Path, folder: Path) -> None:
        data = folder_module(folder)
        run_test(tmp_path / "full", small_taco(k_p=3.5, k_j=0.0025, lpips=LpipsPart(pretrained=False)), data)
        run_test(
            tmp_path / "no_adapter",
            small_taco(adapter=False, k_p=3.5, k_j=0.0025, lpips=LpipsPart(pretrained=False)),
            data,
        )
        run_test(tmp_path / "no_joint", small_taco(k_p=3.5, k_j=0.0, lpips=LpipsPart(pretrained=False)), data)
        curves = {curve.codec for curve in load_curves([tmp_path])}
        assert curves == {"taco", "elic", "taco (k_j 0.0)"}
        run_test(tmp_path / "elic", small_elic(), data)
        curves = {curve.codec for curve in load_curves([tmp_path])}
        assert curves == {"taco", "elic", "elic (TACO's loss)", "taco (k_j 0.0)"}


class TestFrozenBase:
    """Only the adapter is trained, on the ELIC of a checkpoint (Fig. A2)."""

    @pytest.fixture
    def base(self, tmp_path: Path, folder: Path) -> Path:
        self.fit(small_elic(), tmp_path / "elic.ckpt", folder, steps=1)
        return tmp_path / "elic.ckpt"

    def fit(
        self, module: L.LightningModule, target: Path, folder: Path, steps: int = 2, resume: Path | None = None
    ) -> dict[str, torch.Tensor]:
        """Train, write a checkpoint, and give the codec's weights."""
        trainer = quiet_trainer(target.parent, max_epochs=10, max_steps=steps, limit_val_batches=0)
        data = folder_module(folder, val_images=1, crop_size=64, batch_size=1)
        trainer.fit(module, datamodule=data, ckpt_path=resume)
        trainer.save_checkpoint(target)
        return load_codec(target).codec.state_dict()

    def listening(self, base: Path) -> TacoModule:
        """With γ, which is zero at first, such that every other weight of the adapter has a gradient."""
        module = small_taco(base_ckpt=str(base))
        for name, parameter in module.codec.named_parameters():
            if name.endswith("gamma"):
                torch.nn.init.constant_(parameter, 1.0)
        return module

    def test_only_the_adapter_moves(self, tmp_path: Path, folder: Path, base: Path) -> None:
        module = self.listening(base)
        start = {name: value.clone() for name, value in module.codec.state_dict().items()}
        elic = load_codec(base).codec.state_dict()
        trained = self.fit(module, tmp_path / "taco.ckpt", folder)
        assert all(torch.equal(trained[name], value) for name, value in elic.items())
        adapter = {name for name in trained if name.startswith("adapter.")}
        assert set(trained) == set(elic) | adapter
        assert sum(not torch.equal(trained[name], start[name]) for name in adapter) > 0.9 * len(adapter)

    def test_a_resumed_run_needs_no_base(self, tmp_path: Path, folder: Path, base: Path) -> None:
        uninterrupted = self.fit(self.listening(base), tmp_path / "a.ckpt", folder, steps=4)
        self.fit(self.listening(base), tmp_path / "b.ckpt", folder, steps=3)
        base.unlink()
        resumed = self.fit(self.listening(base), tmp_path / "c.ckpt", folder, steps=4, resume=tmp_path / "b.ckpt")
        differing = {name for name, value in uninterrupted.items() if not torch.equal(resumed[name], value)}
        assert not differing

    def test_it_is_a_curve_of_its_own(self, tmp_path: Path, folder: Path, base: Path) -> None:
        module = small_taco(base_ckpt=str(base), k_p=3.5, k_j=0.0025, lpips=LpipsPart(pretrained=False))
        (record,) = run_test(tmp_path / "run", module, folder_module(folder)).values()
        assert record["setting"] == {"base": "frozen base"}

    def test_what_cannot_be_a_base_is_refused(self, tmp_path: Path, folder: Path, base: Path) -> None:
        with pytest.raises(ValueError, match=r"model\.adapter to true"):
            small_taco(base_ckpt=str(base), adapter=False)
        with pytest.raises(CheckpointError, match=r"nowhere\.ckpt does not exist"):
            self.fit(small_taco(base_ckpt="nowhere.ckpt"), tmp_path / "x.ckpt", folder)
        taco = tmp_path / "taco.ckpt"
        self.fit(small_taco(), taco, folder, steps=1)
        with pytest.raises(CheckpointError, match=r"holds codec taco with .* must be an elic with .*elic\.yaml"):
            self.fit(small_taco(base_ckpt=str(taco)), tmp_path / "x.ckpt", folder)
        other = tmp_path / "other.ckpt"
        self.fit(ElicModule(lmbda=0.01, **{**SMALL, "N": 32}), other, folder, steps=1)
        with pytest.raises(CheckpointError, match=r"holds codec elic with \{'N': 32"):
            self.fit(small_taco(base_ckpt=str(other)), tmp_path / "x.ckpt", folder)
