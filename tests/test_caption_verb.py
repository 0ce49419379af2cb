"""`caption`, as a user calls it."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from callbacks.captioners import Captioner, HuggingFaceCaptioner, OfaCaptioner
from datamodules import CaptionedFolderDataModule
from lightning_modules.cli import main
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.partial_captions import PartialCaptions
from tests import captioner_models, ofa_helpers
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return captioner_models.blip(tmp_path_factory.mktemp("models") / "blip")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Nine photographs of three sizes, one of them turned by its EXIF orientation."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(1, 10):
        height, width = [(40, 56), (56, 40), (32, 32)][number % 3]
        pixels = torch.randint(256, (height, width, 3), generator=generator, dtype=torch.uint8)
        pixels = (pixels * torch.rand(3, generator=generator)).byte()
        exif = Image.Exif()
        exif[274] = 6 if number == 4 else 1
        Image.fromarray(pixels.numpy()).save(folder / f"photo{number}.png", exif=exif)
    (folder / "photo10.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image, and none by its name")
    return folder


def call(*args: object) -> None:
    main(["caption", *map(str, args), "--device", "cpu"])


def fails(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        call(*args)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.count("error: ") == 1 and "Traceback" not in message
    return message


def one_by_one(folder: Path, captioner: Captioner) -> dict[str, str]:
    """Captions without the verb: each photograph alone, upright."""
    from PIL import ImageOps

    captioner.prepare(torch.device("cpu"))
    captions = {}
    for path in sorted(folder.glob("*.png")):
        image = ImageOps.exif_transpose(Image.open(path))
        x = torch.tensor(list(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
        captions[path.name] = captioner(x.permute(2, 0, 1)[None] / 255, ["x"], "original")[0]
    return captions


def test_a_folder(photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = one_by_one(photographs, HuggingFaceCaptioner(blip, max_new_tokens=5))
    assert len(set(expected.values())) > 1
    for size in (1, 2, 8):
        output = tmp_path / "new" / f"{size}.json"
        call(photographs, "-o", output, "--model", blip, "--max_new_tokens", 5, "--batch_size", size)
        captured = capsys.readouterr()
        assert f"9 captions -> {output}" in captured.out
        assert "1 of 10 photographs cannot be read and have no caption: photo10.jpg" in captured.err
        empty = [name for name, caption in expected.items() if not caption]  # random models have little to say
        assert not empty or f"have an empty caption: {', '.join(empty)}" in captured.err
        text = output.read_text()
        assert list(json.loads(text).items()) == list(expected.items())  # in natural order
        assert text.startswith('{\n    "photo1.png": "') and text.endswith('"\n}\n')
        assert [path.name for path in output.parent.iterdir() if "partial" in path.name] == []
    samples = CaptionedFolderDataModule(str(photographs), str(output), on_unreadable="skip").test_samples()
    assert {sample.name: sample.captions[0] for sample in samples} == {n: c for n, c in expected.items() if c}


def test_ofa_is_recognised(photographs: Path, tmp_path: Path) -> None:
    """A small one of the width of OFA-tiny, and with it of its image size."""
    folder = ofa_helpers.save(tmp_path / "ofa", d_model=256, encoder_layers=1, image_bucket_size=16)
    output = tmp_path / "captions.json"
    for number in range(4, 10):
        (photographs / f"photo{number}.png").unlink()
    call(photographs, "-o", output, "--model", folder, "--max_new_tokens", 4)
    captioner = OfaCaptioner(folder, max_new_tokens=4)
    assert json.loads(output.read_text()) == one_by_one(photographs, captioner)
    assert captioner.protocol()["image_size"] == 256


def test_a_dataset(blip: str, tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "kodak"
    folder.mkdir()
    for name in ("kodim01.png", "kodim04.png", "kodim17.png"):
        Image.open(data_root / "kodak" / name).resize((48, 32)).save(folder / name)
    shutil.copy(data_root / "kodak" / "kodak_ofa.json", folder)
    arguments = ["-c", ROOT / "configs/data/kodak.yaml", "--data.root", folder, "--data.complete", "false"]
    for split in ("test", "train"):
        output = tmp_path / f"{split}.json"
        call(*arguments, "-o", output, "--model", blip, "--split", split, "--max_new_tokens", 3)
        assert list(json.loads(output.read_text())) == ["kodim01.png", "kodim04.png", "kodim17.png"]
    assert (tmp_path / "train.json").read_text() == (tmp_path / "test.json").read_text()


def test_killed_in_the_middle_and_resumed(photographs: Path, blip: str, tmp_path: Path) -> None:
    """kill -9 after the third caption; the rest is made, nothing twice, and the result is that of one go."""
    output, partial = tmp_path / "captions.json", tmp_path / "captions.json.partial"
    arguments = [str(photographs), "-o", str(output), "--model", blip, "--max_new_tokens", "5", "--batch_size", "1"]
    slow = (
        "import sys, time; from lightning_modules.cli import main; import callbacks.captioners.hugging_face as h; "
        "say = h.HuggingFaceCaptioner.__call__; "
        "h.HuggingFaceCaptioner.__call__ = lambda *a: (time.sleep(0.5), say(*a))[1]; main(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "caption", *arguments, "--device", "cpu"], cwd=ROOT, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while (not partial.exists() or partial.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists()
    left = partial.read_text().splitlines()
    assert 4 <= len(left) < 10
    with partial.open("a") as file:
        file.write('{"name": "photo9.png", "cap')  # what a crash in the middle of a line leaves

    made: list[str] = []
    before = HuggingFaceCaptioner.__call__

    def record(self: HuggingFaceCaptioner, images: torch.Tensor, names: list[str], side: str) -> list[str]:
        made.extend(names)
        return before(self, images, names, side)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HuggingFaceCaptioner, "__call__", record)
        call(*arguments)
    kept = [json.loads(line)["name"] for line in left[1:]]
    assert sorted(kept + made) == [f"photo{number}.png" for number in range(1, 10)]
    assert json.loads(output.read_text()) == one_by_one(photographs, HuggingFaceCaptioner(blip, max_new_tokens=5))
    assert not partial.exists()


def test_interrupted_by_the_user(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "captions.json"
    before, calls = HuggingFaceCaptioner.__call__, []

    def interrupt(self: HuggingFaceCaptioner, *args: object) -> list[str]:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return before(self, *args)  # type: ignore[arg-type]

    arguments = [photographs, "-o", output, "--model", blip, "--batch_size", 1, "--max_new_tokens", 4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HuggingFaceCaptioner, "__call__", interrupt)
        with pytest.raises(SystemExit) as exit_:
            call(*arguments)
        assert exit_.value.code == 130
    assert "the same command continues" in capsys.readouterr().err
    partial = tmp_path / "captions.json.partial"
    assert len(partial.read_text().splitlines()) == 3

    other = fails(capsys, *arguments[:-1], 6)
    assert "captions.json.partial holds 2 captions made with max_new_tokens 4 instead of 6" in other
    assert "--force" in other
    assert "prompt None instead of 'a photo of'" in fails(capsys, *arguments, "--prompt", "a photo of")
    elsewhere = shutil.copytree(photographs, tmp_path / "elsewhere")
    assert "images in" in fails(capsys, elsewhere, *arguments[1:])
    assert len(partial.read_text().splitlines()) == 3  # refused commands change nothing

    call(*arguments[:-1], 6, "--force")
    assert json.loads(output.read_text()) == one_by_one(photographs, HuggingFaceCaptioner(blip, max_new_tokens=6))


def test_nothing_left_to_do(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last caption and the output: no model is loaded."""
    (photographs / "photo10.jpg").unlink()
    output, partial = tmp_path / "captions.json", tmp_path / "captions.json.partial"
    call(photographs, "-o", output, "--model", blip, "--max_new_tokens", 3)
    first = output.read_text()
    assert "captions.json exists" in fails(capsys, photographs, "-o", output, "--model", blip)
    settings = {"model": blip, "prompt": None, "num_beams": 3, "max_new_tokens": 3, "images in": str(photographs)}
    with PartialCaptions(partial, settings, force=False) as kept:
        kept.add({**json.loads(first), "deleted since.png": "a cat"})
    output.unlink()
    monkeypatch.setattr(HuggingFaceCaptioner, "prepare", lambda *_: pytest.fail("the model was loaded"))
    call(photographs, "-o", output, "--model", blip, "--max_new_tokens", 3)
    assert output.read_text() == first
    assert not partial.exists()


def test_existing_output_is_replaced_by_force_only(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "captions.json"
    output.write_text("mine")
    assert "replace it with --force" in fails(capsys, photographs, "-o", output, "--model", blip)
    assert output.read_text() == "mine"
    call(photographs, "-o", output, "--model", blip, "--max_new_tokens", 3, "--force")
    assert len(json.loads(output.read_text())) == 9


def test_what_cannot_be_captioned(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["-o", tmp_path / "captions.json", "--model", blip]
    assert "is no folder" in fails(capsys, tmp_path / "nothing", *output)
    assert "is no folder" in fails(capsys, photographs / "photo1.png", *output)
    assert "no photograph in" in fails(capsys, tmp_path / "photographs" / "..", *output)
    assert "name either a folder" in fails(capsys, *output)
    digits = ["--data", "datamodules.DigitsDataModule"]
    assert "name either a folder" in fails(capsys, photographs, *digits, *output)
    assert "DigitsDataModule is not a dataset of photographs" in fails(capsys, *digits, *output)
    assert "--batch_size is 0" in fails(capsys, photographs, *output, "--batch_size", 0)
    missing = fails(capsys, photographs, "-o", tmp_path / "captions.json", "--model", tmp_path / "no model")
    assert "given by --model) does not exist" in missing
    assert "takes images only" in fails(
        capsys, photographs, *output[:2], "--model", captioner_models.vit_gpt2(tmp_path / "v"), "--prompt", "a"
    )
    for number in range(1, 10):
        (photographs / f"photo{number}.png").write_bytes(b"")
    with pytest.raises(SystemExit):
        call(photographs, *output)
    assert "there is no photograph that could be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("captions")] == []


@pytest.mark.parametrize(
    "name", ["folder", "photographs/photo1.png/x.json", "/proc/x.json", f"{'x' * 300}.json"], ids=lambda n: n[:20]
)
def test_outputs_that_cannot_be_written_are_refused_before_the_model_is_loaded(
    photographs: Path,
    blip: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(HuggingFaceCaptioner, "prepare", lambda *_: pytest.fail("the model was loaded"))
    (tmp_path / "folder").mkdir()
    before = set(tmp_path.rglob("*"))
    message = fails(capsys, photographs, "-o", tmp_path / name, "--model", blip, "--force")
    assert f"error: {tmp_path / name} " in message
    assert ("name a file for --output" if name == "folder" else "or choose another --output") in message
    assert set(tmp_path.rglob("*")) == before


def test_a_disk_that_fills_up(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, before = tmp_path / "captions.json", os.fsync
    arguments = [photographs, "-o", output, "--model", blip, "--batch_size", 1, "--max_new_tokens", 3]
    written = []

    def fill(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        before(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    message = fails(capsys, *arguments)
    assert "captions.json cannot be made" in message and "No space left" in message and "continues" in message
    call(*arguments)
    assert "captions are there already" in capsys.readouterr().out
    assert len(json.loads(output.read_text())) == 9


def test_names_that_are_not_utf8(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HuggingFaceCaptioner, "prepare", lambda *_: pytest.fail("the model was loaded"))
    output = ["-o", tmp_path / "captions.json", "--model", blip]
    folder = shutil.copytree(photographs, Path(os.fsdecode(bytes(tmp_path) + b"/d\xe9j\xe0")))
    assert "is not UTF-8" in fails(capsys, folder, *output)
    (photographs / "photo1.png").rename(os.fsdecode(bytes(photographs) + b"/caf\xe9.png"))
    message = fails(capsys, photographs, *output)
    assert r"1 of 10 photographs have names that are not UTF-8 ('caf\udce9.png')" in message and "rename" in message
    assert list(tmp_path.glob("captions*")) == []


@pytest.mark.parametrize(
    ("option", "told"), [("num_beams", "num_beams is 0"), ("max_new_tokens", "max_new_tokens 0")]
)
def test_searches_for_nothing(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, told: str
) -> None:
    message = fails(capsys, photographs, "-o", tmp_path / "captions.json", "--model", blip, f"--{option}", 0)
    assert told in message and "set both to at least 1" in message


def test_weights_that_are_missing_are_put_down_to_the_option(
    photographs: Path, blip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(blip, tmp_path / "blip"))
    (folder / "model.safetensors").unlink()
    message = fails(capsys, photographs, "-o", tmp_path / "captions.json", "--model", folder)
    assert "given by --model" in message and "init_args" not in message


@pytest.mark.parametrize("content", ["[1]\n", '{"captions made with": {}}\n{"name": 1}\n', "no JSON\n"])
def test_a_partial_file_of_something_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "captions.json.partial"
    path.write_text(content)
    with pytest.raises(CommandError, match="move it out of the way"), PartialCaptions(path, {}, force=True):
        pass
    assert path.read_text() == content
