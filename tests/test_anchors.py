"""The verb `anchors`: records of classical codecs, made as those of trained ones are."""

import json
import os
import signal
import typing
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import yaml
from PIL import Image
from skimage import data as photographs

from lightning_modules.classical import CODECS, Avif, Jpeg, JpegXl
from lightning_modules.commands.anchors import CodecName, build_parser, main
from lightning_modules.commands.errors import CommandError
from tests.conftest import ROOT, two_processes

NAMES = ("astronaut.png", "cat.png")


class Interrupt(L.Callback):
    """Presses Ctrl-C after the first image."""

    def on_test_batch_end(self, *args: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of different shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, pixels in zip(NAMES, (photographs.astronaut()[:176, :200], photographs.cat()[:200, :170]), strict=True):
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def anchors(folder, tmp_path):
    """The verb on the two pictures, without LPIPS unless a config brings it, and with its output in tmp_path."""
    config = tmp_path / "small.yaml"
    metrics = [
        {"class_path": f"callbacks.{name}"} for name in ("Bpp", "Psnr", "MsSsim", "CodingTime", "ResultRecord")
    ]
    data = {"root": str(folder), "captions_file": None, "name": "pair"}
    config.write_text(yaml.safe_dump({"callbacks": metrics, "data": {"init_args": data}, "output": str(tmp_path)}))

    def run(*args: str) -> None:
        main(["-c", "configs/anchors.yaml", "-c", str(config), *args])

    return run


def record(path: Path) -> dict:
    return json.loads((path / "results" / "pair.json").read_text())


def original(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / name))


class TestRecords:
    def test_hold_what_the_codec_does(self, anchors, folder, tmp_path, capsys):
        anchors("--codecs", "jpeg", "jxl", "--quality", "75")
        for codec in (Jpeg(), JpegXl()):
            point = tmp_path / codec.name / "quality_75"
            written = record(point)
            assert written["codec"] == codec.name and (written["lambda"], written["weights"]) == (None, None)
            assert written["parameters"] == {} and written["kmacs_per_pixel"] == {}
            assert next(iter(written["setting"].items())) == ("quality", 75)
            assert written["setting"] == {"quality": 75, **codec.describe()}
            assert [row["name"] for row in written["images"]] == list(NAMES)
            for row in written["images"]:
                pixels = original(folder, row["name"])
                data = codec.encode(pixels, 75)
                squared = np.square(codec.decode(data, pixels.shape[:2]).astype(float) - pixels).mean()
                assert row["file_bytes"] == len(data)
                assert row["bpp"] == pytest.approx(8 * len(data) / (row["width"] * row["height"]), rel=1e-12)
                assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / squared), rel=1e-7)  # from float32 pixels
                assert row["encode_ms"] > 0 and row["decode_ms"] > 0
                assert (row["height"], row["width"]) == pixels.shape[:2]
            assert set(written["mean"]) == {"bpp", "psnr", "ms_ssim", "encode_ms", "decode_ms"}
            assert not {"bpp_likelihood", "bpp_gap"} & set(written["images"][0]), (
                "there is no likelihood, not one of 0"
            )
            assert written["results"]["bpp"] == [written["mean"]["bpp"]]
            assert written["config"]["codecs"] == ["jpeg", "jxl"]
            assert [path.name for path in point.iterdir()] == ["results"], "coded files are removed"
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and lines[0].startswith("[1/2] jpeg quality_75  pair ") and " bpp " in lines[0]

    def test_default_grid(self, anchors, tmp_path):
        anchors("--codecs", "jpeg")
        points = {path.name for path in (tmp_path / "jpeg").iterdir()}
        assert points == {f"quality_{value}" for value in Jpeg.setting.grid}

    def test_pictures_and_files_on_request(self, anchors, folder, tmp_path):
        anchors("--codecs", "jpeg", "--quality", "40", "--pictures", "1", "--keep_files")
        point = tmp_path / "jpeg" / "quality_40"
        assert sorted(path.name for path in (point / "bitstreams" / "pair").iterdir()) == [f"{n}.jpg" for n in NAMES]
        picture = np.asarray(Image.open(point / "reconstructions" / "pair" / NAMES[0]))
        assert np.array_equal(picture, np.asarray(Image.open(point / "bitstreams" / "pair" / f"{NAMES[0]}.jpg")))
        rows = record(point)["images"]
        assert rows[0]["reconstruction"] is not None and rows[1]["reconstruction"] is None

    def test_options_of_a_codec_are_in_its_name(self, anchors, tmp_path):
        anchors("--codecs", "jpeg", "--quality", "75", "--jpeg.subsampling", "4:4:4")
        written = record(tmp_path / "jpeg-subsampling_444" / "quality_75")
        assert written["codec"] == "jpeg-subsampling_444" and written["setting"]["subsampling"] == "4:4:4"

    def test_lpips_is_measured_or_said_to_be_missing(self, anchors, tmp_path, data_root, alexnet):
        full = ["-c", "configs/anchors.yaml", "--data.root", str(data_root / "kodak"), "--data.test_crop", "64"]
        for weights in (alexnet, str(tmp_path / "none.pth")):
            output = tmp_path / Path(weights).stem
            main([*full, "--alexnet", weights, "--codecs", "jpeg", "--quality", "20", "-o", str(output)])
            written = json.loads((output / "jpeg" / "quality_20" / "results" / "kodak.json").read_text())
            assert len(written["images"]) == 24
            if weights == alexnet:
                assert 0.1 < written["mean"]["lpips"] < 0.5
            else:
                assert "none.pth" in written["not_available"]["lpips"] and "lpips" not in written["mean"]


class TestTargetRate:
    def test_each_image_is_met(self, anchors, folder, tmp_path, capsys):
        anchors("--codecs", "jpeg", "jxl", "--target_bpp", "0.9")
        for codec in (Jpeg(), JpegXl()):
            written = record(tmp_path / codec.name / "target_bpp_0.9")
            assert next(iter(written["setting"].items())) == ("target_bpp", 0.9)
            for row in written["images"]:
                assert row["bpp"] == pytest.approx(0.9, rel=0.01)
                again = codec.encode(original(folder, row["name"]), row["setting_quality"])
                assert len(again) == row["file_bytes"], "the record tells how to make the file again"
            told = written["protocols"]["setting_quality"]
            assert (told["target_bpp"], told["images"], told["images_within_tolerance"]) == (0.9, 2, 2)
            assert written["mean"]["bpp"] == pytest.approx(np.mean([row["bpp"] for row in written["images"]]))
        assert capsys.readouterr().out.count("2 of 2 images within 1 %") == 2

    def test_whole_numbers_are_counted_honestly(self, anchors, tmp_path, capsys):
        anchors("--codecs", "avif", "--target_bpp", "0.9", "--avif.speed", "10")
        written = record(tmp_path / "avif-speed_10" / "target_bpp_0.9")
        met = sum(abs(row["bpp"] / 0.9 - 1) <= 0.01 for row in written["images"])
        assert written["protocols"]["setting_quality"]["images_within_tolerance"] == met
        assert f"{met} of 2 images within 1 %" in capsys.readouterr().out
        for row in written["images"]:  # its steps are a few per cent here
            assert row["bpp"] == pytest.approx(0.9, rel=0.06) and row["setting_quality"] == int(
                row["setting_quality"]
            )

    def test_out_of_reach(self, anchors, tmp_path, capsys):
        with pytest.raises(CommandError, match="1 of 2 points could not be measured; the others are in"):
            anchors("--codecs", "jpeg", "--target_bpp", "0.01", "2")
        error = capsys.readouterr().err
        assert (
            "jpeg cannot code astronaut.png at 0.01 bpp" in error and "quality 1" in error and "quality 100" in error
        )
        assert [path.name for path in (tmp_path / "jpeg").iterdir()] == ["target_bpp_2"]


class TestResume:
    JPEG = ("--codecs", "jpeg", "--quality", "30", "60")

    def stamps(self, tmp_path: Path) -> dict[str, int]:
        return {
            path.parent.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("jpeg/*/results/pair.json")
        }

    def test_what_is_there_is_left(self, anchors, tmp_path, capsys):
        anchors("--codecs", "jpeg", "--quality", "30")
        before = self.stamps(tmp_path)
        anchors(*self.JPEG)
        after = self.stamps(tmp_path)
        assert after["quality_30"] == before["quality_30"] and "quality_60" in after
        assert "[1/2] jpeg quality_30  is there already" in capsys.readouterr().out
        anchors(*self.JPEG, "--force")
        assert all(stamp > after[point] for point, stamp in self.stamps(tmp_path).items())

    @pytest.mark.parametrize(
        "change",
        [
            ("--data.test_crop", "165"),
            ("--pictures", "2"),
            ("--keep_files",),
            ("--callbacks+", '{"class_path": "callbacks.Lpips", "init_args": {"pretrained": "no/such/file"}}'),
        ],
        ids=lambda change: change[0],
    )
    def test_what_asks_for_more_is_measured_again(self, anchors, tmp_path, change):
        anchors("--codecs", "jpeg", "--quality", "30")
        before = self.stamps(tmp_path)
        anchors("--codecs", "jpeg", "--quality", "30", *change)
        between = self.stamps(tmp_path)
        assert between["quality_30"] > before["quality_30"]
        anchors("--codecs", "jpeg", "--quality", "30", *change)
        assert self.stamps(tmp_path) == between

    def test_damaged_records_are_measured_again(self, anchors, tmp_path):
        anchors("--codecs", "jpeg", "--quality", "30")
        path = tmp_path / "jpeg" / "quality_30" / "results" / "pair.json"
        good = path.read_text()
        for damage in (
            good.replace('"images"', '"pictures"'),
            good.replace('"protocols": {', '"protocols": null, "x": {'),
        ):
            path.write_text(damage)
            anchors("--codecs", "jpeg", "--quality", "30")
            assert record(path.parent.parent)["mean"]["bpp"] == json.loads(good)["mean"]["bpp"]

    def test_another_encoders_record_is_not_replaced_unasked(self, anchors, tmp_path, capsys):
        anchors("--codecs", "jpeg", "--quality", "30")
        path = tmp_path / "jpeg" / "quality_30" / "results" / "pair.json"
        older = path.read_text().replace("libjpeg-turbo", "libjpeg")
        path.write_text(older)
        with pytest.raises(CommandError, match="1 of 2 points"):
            anchors(*self.JPEG)
        assert "--force" in capsys.readouterr().err and path.read_text() == older
        anchors(*self.JPEG, "--force")
        assert "libjpeg-turbo" in path.read_text()

    def test_ctrl_c_leaves_nothing_half_written(self, anchors, tmp_path, capsys):
        anchors("--codecs", "jpeg", "--quality", "30")
        initial = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            interrupt = '{"class_path": "tests.test_anchors.Interrupt"}'
            with pytest.raises(SystemExit) as stopped:
                anchors(*self.JPEG, "--pictures", "2", "--callbacks+", interrupt, "--keep_files")
        finally:
            signal.signal(signal.SIGINT, initial)
        assert stopped.value.code == 130 and "the same command continues" in capsys.readouterr().err
        written = [path for path in (tmp_path / "jpeg").rglob("*") if path.is_file()]
        assert tmp_path / "jpeg" / "quality_30" / "results" / "pair.json" in written
        assert not (tmp_path / "jpeg" / "quality_60").exists()
        anchors(*self.JPEG)
        assert set(self.stamps(tmp_path)) == {"quality_30", "quality_60"}


class TestErrors:
    def test_a_codec_that_is_not_here_does_not_stop_the_rest(self, anchors, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(CommandError, match="2 of 3 points could not be measured"):
            anchors("--codecs", "bpg", "vtm", "jpeg", "--quality", "40")
        error = capsys.readouterr().err
        assert "[1/3] error: bpg: no bpgenc on PATH" in error and "[2/3] error: vtm: no EncoderAppStatic" in error
        assert record(tmp_path / "jpeg" / "quality_40")["codec"] == "jpeg"

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (("--quality", "50", "--target_bpp", "1"), "give --quality or --target_bpp, not both"),
            (("--webp.method", "9"), "webp takes method 0 to 6, not 9"),
            (("--data.root", "no/folder"), "there is no folder no/folder"),
            (("--callbacks", "[]"), "no callbacks.ResultRecord"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_settings_that_cannot_be_used(self, anchors, args, message):
        with pytest.raises(CommandError, match=message):
            anchors(*args)

    @pytest.mark.parametrize("value", ["0", "-1"])
    def test_rates_that_are_none(self, anchors, value, capsys):
        with pytest.raises(CommandError, match=r"1 of 1 points could not be measured$"):
            anchors("--codecs", "jpeg", f"--target_bpp={value}")
        assert f"a rate of {value} bpp cannot be met" in capsys.readouterr().err

    def test_unknown_codec(self, anchors, capsys):
        with pytest.raises(SystemExit):
            anchors("--codecs", "jpg")
        assert "'jpeg', 'webp'" in capsys.readouterr().err


class TestConfig:
    def test_parses_to_the_codecs_defaults(self, monkeypatch):
        monkeypatch.setenv("DATA_ROOT", "/photographs")
        parser = build_parser()
        options = parser.parse_args(["-c", "configs/anchors.yaml"])
        assert options.data.init_args.root == "/photographs/kodak"
        assert options.codecs == ["jpeg", "webp", "avif", "jxl"]
        for name in options.codecs:
            assert CODECS[name](**options[name].as_dict()).options() == CODECS[name]().options()
        lpips = next(callback for callback in options.callbacks if callback.class_path.endswith("Lpips"))
        assert lpips.init_args.pretrained is True and lpips.init_args.input_range == "[-1,1]"
        assert (ROOT / "configs/anchors.yaml").read_text().startswith("# ")

    def test_names_on_the_command_line_are_the_codecs(self):
        assert typing.get_args(CodecName) == tuple(CODECS)

    def test_two_processes_measure_what_one_does(self, folder, tmp_path):
        """`ClassicalModule` has no parameters; Lightning's distributed strategy takes it all the same."""
        import callbacks
        from datamodules import CaptionedFolderDataModule
        from lightning_modules.classical import ChosenSetting, ClassicalModule

        for devices, strategy in ((1, "auto"), (2, two_processes())):
            codec = Avif(speed=10)
            trainer = L.Trainer(
                default_root_dir=tmp_path / str(devices),
                accelerator="cpu",
                devices=devices,
                strategy=strategy,
                callbacks=[callbacks.Bpp(), ChosenSetting(codec, 0.9), callbacks.ResultRecord()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            data = CaptionedFolderDataModule(str(folder), name="pair", num_workers=0)
            trainer.test(ClassicalModule(codec, target_bpp=0.9), datamodule=data, verbose=False)
        one, two = record(tmp_path / "1"), record(tmp_path / "2")
        for key in ("mean", "protocols", "images", "setting"):
            assert one[key] == two[key]
