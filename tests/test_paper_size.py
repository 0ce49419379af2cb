"""The paper's model, at the paper's size, with the whole loss, for a few steps on real COCO photographs."""

from pathlib import Path

import pytest
import torch

from lightning_modules.cli import main
from tests.conftest import ROOT


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)])
def test_the_paper_model_trains_on_coco(
    precision: str, data_root: Path, alexnet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    cli = main(
        [
            *("fit", "-c", "configs/taco.yaml", "-c", "configs/trainer/cpu.yaml", "-c", "configs/logger/csv.yaml"),
            *("-c", "configs/data/coco.yaml"),
            *("--data.root", str(data_root / "coco_mini"), "--data.year", "2017", "--data.val_images", "4"),
            *("--data.batch_size", "2", "--data.num_workers", "0", "--run_dir", str(tmp_path)),
            *("--model.clip.pretrained", "false", "--model.lpips.pretrained", alexnet),
            *("--trainer.precision", precision, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3"),
            *("--trainer.limit_val_batches", "1", "--trainer.log_every_n_steps", "1"),
            *("--trainer.callbacks", "callbacks.Psnr"),
        ]
    )
    assert cli is not None
    module, metrics = cli.model, cli.trainer.callback_metrics
    counts = module.codec.parameter_counts()
    assert sum(counts.values()) - counts["adapter"] == 36_932_427
    assert sum(p.numel() for p in module.text_encoder.parameters()) == 63_165_952
    names = {"loss", "bpp_y", "bpp_z", "term_mse", "term_lpips", "term_joint_contrastive", "term_joint_distance"}
    assert all(torch.isfinite(metrics[f"train/{name}"]) for name in names)
    assert torch.isfinite(metrics["val/loss"])
    assert cli.trainer.global_step == 3
    assert all(p.dtype == torch.float32 for p in module.parameters())
    moved = [s["exp_avg"].abs().sum() > 0 for s in cli.trainer.optimizers[0].state.values()]
    assert sum(moved) > 0.9 * len(moved), "nearly every parameter has had a gradient"


def test_in_bf16_the_entropy_model_stays_in_float32() -> None:
    from tests.test_codec import photograph, small_codec, text

    codec = small_codec().train()
    seen: dict[str, torch.dtype] = {}
    for name, part in (("g_s", codec.g_s[1]), ("context", codec.context.local[0]), ("h_s", codec.h_s[0])):
        part.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = codec(photograph(64, 64), text(1))
    assert seen == {"g_s": torch.bfloat16, "context": torch.float32, "h_s": torch.float32}
    assert out["likelihoods"]["y"].dtype == torch.float32
