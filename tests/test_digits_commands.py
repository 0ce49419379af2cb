"""Digits through files: tests of all decoders, compress, decompress, and the classifier that is made on demand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from callbacks import Bits, Bpp, Mse, ResultRecord
from callbacks.made_on_demand import make_checkpoint
from lightning_modules.cli import main
from lightning_modules.errors import PretrainedError
from tests.conftest import ROOT, quiet_trainer
from tests.digit_helpers import WIDTH, digits_data, fit, small_two_stage

PLACES = (0.0, 0.4, 1.0)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch of each stage, tested at three places and with two labels."""
    folder = tmp_path_factory.mktemp("digits")
    module = small_two_stage(realism=PLACES, decode_as=[3, 7])
    trainer = fit(module, folder)
    trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)
    callbacks = [Bits(), Bpp(), Mse(), ResultRecord()]
    quiet_trainer(folder, callbacks=callbacks).test(module, digits_data(), verbose=False)
    return folder


def record(run_dir: Path, decoder: str) -> Any:
    return json.loads((run_dir / "results" / f"digits-test-{decoder}.json").read_text())


def error_of(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([str(arg) for arg in args])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_a_test_measures_every_decoder_on_one_file(run_dir: Path) -> None:
    assert [path.name for path in (run_dir / "bitstreams").iterdir()] == ["digits-test.digits"]
    size = 8 * (run_dir / "bitstreams" / "digits-test.digits").stat().st_size
    for decoder in ("g1", "realism_0.4", "g2"):
        result = record(run_dir, decoder)
        assert len(result["images"]) == 359
        assert result["mean"]["bits"] == pytest.approx(size / 359)
        # A header and the coder's final state are much beside 359 digits; MNIST's test set is in docs/results/digits.
        assert 0 < result["mean"]["bits"] - result["mean"]["bits_likelihood"] < 0.7
        assert result["setting"] == {"code_bits": 4, "side_information": "label", "decoder": decoder}
        assert result["training"]["width"] == WIDTH and result["training"]["noise_dim"] == 6
    assert record(run_dir, "g1")["weights"] == record(run_dir, "g2")["weights"]


def test_other_labels_leave_out_images_that_have_them(run_dir: Path) -> None:
    labels = {row["name"]: row["label"] for row in record(run_dir, "g2")["images"]}
    for wanted in (3, 7):
        rows = record(run_dir, f"g2_as_{wanted}")["images"]
        assert {row["name"] for row in rows} == {name for name, label in labels.items() if label != wanted}
        assert {row["label"] for row in rows} == {wanted}


def test_one_digit_there_and_back(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample", "--digits", str(tmp_path / "digits")])
    source, file = tmp_path / "digits" / "digit_7.png", tmp_path / "7.digits"
    checkpoint = ["--checkpoint", str(run_dir / "last.ckpt"), "--device", "cpu"]
    main(["compress", str(source), str(file), *checkpoint, "--label", "7"])
    assert file.stat().st_size == 21
    pixels = {}
    for name, options in {
        "g1": ["--realism", "0"],
        "a": ["--realism", "0.5"],
        "g2": [],
        "3": ["--label", "3"],
    }.items():
        main(["decompress", str(file), str(tmp_path / f"{name}.png"), *checkpoint, *options])
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert (picture.mode, picture.size) == ("L", (32, 32))
            pixels[name] = torch.tensor(list(picture.getdata())).float()
    assert not torch.equal(pixels["g2"], pixels["3"])
    inside = ((pixels["g1"] > 0) & (pixels["g2"] > 0)).float()  # where neither was clamped
    assert ((pixels["a"] - (pixels["g1"] + pixels["g2"]) / 2).abs() * inside).max() <= 1
    assert "21 bytes" in capsys.readouterr().out
    main(["decompress", "--info", str(file)])
    assert "codec    digits" in capsys.readouterr().out


def test_a_stack_of_digits_is_one_file(run_dir: Path, tmp_path: Path) -> None:
    main(["sample", "--digits", str(tmp_path / "digits")])
    stack = Image.new("L", (32, 96))
    for i, digit in enumerate((2, 0, 5)):
        with Image.open(tmp_path / "digits" / f"digit_{digit}.png") as picture:
            stack.paste(picture, (0, 32 * i))
    stack.save(tmp_path / "stack.png")
    checkpoint = ["--checkpoint", str(run_dir / "last.ckpt"), "--device", "cpu"]
    main(["compress", str(tmp_path / "stack.png"), str(tmp_path / "s.digits"), *checkpoint, "--label", "2,0,5"])
    main(["decompress", str(tmp_path / "s.digits"), str(tmp_path / "out.png"), *checkpoint])
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (32, 96)


def test_errors_name_the_remedy(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample", "--digits", str(tmp_path / "digits")])
    source, file = tmp_path / "digits" / "digit_7.png", tmp_path / "7.digits"
    last = ("--checkpoint", run_dir / "last.ckpt", "--device", "cpu")
    assert "give it with --label" in error_of(capsys, "compress", source, file, *last)
    assert "label 12 is not in 0..9" in error_of(capsys, "compress", source, file, *last, "--label", "12")
    Image.new("RGB", (32, 32)).save(tmp_path / "colour.png")
    Image.new("L", (28, 28)).save(tmp_path / "small.png")
    for name, what in (("colour", "colour picture of 32x32"), ("small", "greyscale picture of 28x28")):
        message = error_of(capsys, "compress", tmp_path / f"{name}.png", file, *last, "--label", "1")
        assert what in message and "sample --digits" in message
    main(["compress", str(source), str(file), *map(str, last), "--label", "7"])
    out = tmp_path / "out.png"
    assert "from 0 (fidelity) to 1 (realism)" in error_of(capsys, "decompress", file, out, *last, "--realism", "2")
    assert "there are 10 classes" in error_of(capsys, "decompress", file, out, *last, "--label", "10")
    file.write_bytes(file.read_bytes()[:15])
    assert "truncated" in error_of(capsys, "decompress", file, out, *last)
    assert not out.exists()


def test_a_classifier_is_made_where_it_is_missing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    there = tmp_path / "there.ckpt"
    there.touch()
    make_checkpoint(there, "no such command")  # not run
    missing = tmp_path / "digits" / "digit_3.png"  # any file that a command of this program writes
    make_checkpoint(missing, f"sample --digits {missing.parent}")
    assert missing.is_file() and "trained now, once" in capfd.readouterr().err
    with pytest.raises(PretrainedError, match=r"ended with code 2: run it by hand"):
        make_checkpoint(tmp_path / "never.ckpt", "no such command")
