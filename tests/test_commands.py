"""compress, decompress and sample, as a user calls them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.cli import main
from lightning_modules.codecs.bitstream import MAGIC, VERSION, Bitstream
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.pictures import read_picture


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    main(["sample", str(folder)])
    for path in folder.glob("*.png"):
        Image.open(path).resize((120, 90)).save(path)
    return folder


@pytest.fixture(scope="module")
def checkpoint(trained: tuple) -> str:
    return str(trained[2])


def fails(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The message of a command that exits with code 2."""
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in args])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_one_photograph_and_back(
    photographs: Path, checkpoint: str, trained: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, coded, decoded = photographs / "chelsea.png", tmp_path / "cat.taco", tmp_path / "cat.png"
    main(["compress", str(source), str(coded), "--checkpoint", checkpoint, "--caption", "a tabby cat"])
    assert "bpp" in capsys.readouterr().out
    main(["decompress", str(coded), str(decoded), "--checkpoint", checkpoint])
    module, x = trained[0], read_picture(source).x
    with torch.no_grad():
        expected = module.codec(x, module.side_information(["a tabby cat"], 1))["x_hat"]
    written = np.asarray(Image.open(decoded)).astype(int)
    assert written.shape == (90, 120, 3)
    expected_pixels = expected[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy().astype(int)
    assert np.array_equal(written, expected_pixels)
    main(["decompress", "--info", str(coded)])
    told = capsys.readouterr().out
    assert "120x90 RGB" in told
    assert f"weights {module.codec.fingerprint()[:6]}" in told


def test_many_photographs_and_their_captions(photographs: Path, checkpoint: str, tmp_path: Path) -> None:
    sources = [str(p) for p in sorted(photographs.glob("*.png"))]
    captions = str(photographs / "captions.json")
    main(["compress", *sources, str(tmp_path / "files"), "--checkpoint", checkpoint, "--captions", captions])
    files = sorted((tmp_path / "files").iterdir())
    assert [f.name for f in files] == ["chelsea.taco", "coffee.taco"]
    main(["decompress", *map(str, files), f"{tmp_path}/back/", "--checkpoint", checkpoint])
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["chelsea.png", "coffee.png"]


def test_greyscale_comes_back_as_greyscale(photographs: Path, checkpoint: str, tmp_path: Path) -> None:
    Image.open(photographs / "chelsea.png").convert("L").save(tmp_path / "grey.png")
    main(["compress", str(tmp_path / "grey.png"), str(tmp_path / "grey.taco"), "--checkpoint", checkpoint])
    main(["decompress", str(tmp_path / "grey.taco"), str(tmp_path / "back.png"), "--checkpoint", checkpoint])
    assert Image.open(tmp_path / "back.png").mode == "L"


def test_transparency_is_refused_or_laid_on_a_colour(
    photographs: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image.open(photographs / "chelsea.png").convert("RGBA")
    image.save(tmp_path / "opaque.png")
    assert torch.equal(read_picture(tmp_path / "opaque.png").x, read_picture(photographs / "chelsea.png").x)
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    command = ["compress", tmp_path / "clear.png", tmp_path / "clear.taco", "--checkpoint", checkpoint]
    assert "--background white" in fails(capsys, *command)
    assert not (tmp_path / "clear.taco").exists()
    assert bool((read_picture(tmp_path / "clear.png", "#ff0000").x[0, 0] == 1).all())
    assert "not a colour" in fails(capsys, *command, "--background", "no-such-colour")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_text("hello"), "cannot be read as a picture"),
        (lambda p: Image.fromarray(np.zeros((4, 4), np.uint16)).save(p), "8 bits"),
        (lambda p: None, "no such file"),
    ],
)
def test_unsuitable_pictures_are_named(
    make: object, message: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.png"
    make(path)  # type: ignore[operator]
    told = fails(capsys, "compress", path, tmp_path / "bad.taco", "--checkpoint", checkpoint)
    assert message in told
    assert str(path) in told
    assert not (tmp_path / "bad.taco").exists()


def test_animations_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(CommandError, match="2 frames"):
        read_picture(tmp_path / "two.gif")


def test_damaged_files_leave_nothing_behind(
    photographs: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "cat.taco"
    main(["compress", str(photographs / "chelsea.png"), str(coded), "--checkpoint", checkpoint])
    data = coded.read_bytes()
    parsed = Bitstream.from_bytes(data)
    other = Bitstream(**{**parsed.__dict__, "fingerprint": "000000"}).to_bytes()
    newer = MAGIC + bytes([VERSION + 1 << 5]) + data[3:]
    cases = {
        "truncated": (data[:-10], "truncated"),
        "flipped": (data[:40] + bytes([data[40] ^ 1]) + data[41:], "checksum mismatch"),
        "other": (other, "written with weights 000000"),
        "newer": (newer, "format version 2"),
        "foreign": ((photographs / "chelsea.png").read_bytes(), "not a file of this format"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / f"{name}.taco").write_bytes(content)
        target = tmp_path / f"{name}.png"
        told = fails(capsys, "decompress", tmp_path / f"{name}.taco", target, "--checkpoint", checkpoint)
        assert message in told
        assert not target.exists()
    good, bad = coded, tmp_path / "flipped.taco"
    told = fails(capsys, "decompress", bad, good, f"{tmp_path}/mixed/", "--checkpoint", checkpoint)
    assert "1 of 2 files failed" in told
    assert [p.name for p in (tmp_path / "mixed").iterdir()] == ["cat.png"], "the good one is written"


def test_outputs_are_not_overwritten(
    photographs: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "cat.taco"
    target.write_text("precious")
    command = ["compress", photographs / "chelsea.png", target, "--checkpoint", checkpoint]
    assert "--force" in fails(capsys, *command)
    assert target.read_text() == "precious"
    main([str(c) for c in (*command, "--force")])
    assert target.read_bytes()[:2] == MAGIC


def test_wrong_arguments(
    photographs: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = photographs / "chelsea.png"
    assert "output" in fails(capsys, "compress", cat, "--checkpoint", checkpoint)
    assert "does not exist" in fails(capsys, "compress", cat, tmp_path / "a", "--checkpoint", tmp_path / "none.ckpt")
    assert "losslessly" in fails(capsys, "decompress", cat, tmp_path / "a.jpg", "--checkpoint", checkpoint)
    assert "--checkpoint is missing" in fails(capsys, "decompress", cat, tmp_path / "a.png")
    assert "both be written" in fails(capsys, "compress", cat, cat, f"{tmp_path}/x/", "--checkpoint", checkpoint)
    assert "not available here" in fails(
        capsys, "compress", cat, tmp_path / "a", "--checkpoint", checkpoint, "--device", "cuda:77"
    )
    (tmp_path / "captions.json").write_text("{}")
    told = fails(
        capsys, "compress", cat, tmp_path / "a", "--checkpoint", checkpoint, "--captions", tmp_path / "captions.json"
    )
    assert "has no caption" in told
