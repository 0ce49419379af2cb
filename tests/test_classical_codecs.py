"""Classical codecs: their bits, their pixels, the search for a rate, and programs that are not here."""

import io
import json
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, JpegImagePlugin
from skimage import data as photographs

from lightning_modules.classical import CODECS, Avif, Bpg, ClassicalCodecError, Hm, Jpeg, Jpeg2000, JpegXl, Vtm, WebP
from lightning_modules.classical.codec import Setting
from lightning_modules.classical.colour import rgb_to_ycbcr, ycbcr_to_rgb
from lightning_modules.classical.search import Trial, UnreachableRateError, find_rate, within_tolerance

PILLOW = [Jpeg, WebP, Avif, JpegXl, Jpeg2000]
PHOTOGRAPH = photographs.astronaut()[20:148, 140:300]  # height and width differ, and are no multiples of 64


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(np.float64) - b).mean()))


def bpp(data: bytes, pixels: np.ndarray) -> float:
    return 8 * len(data) / (pixels.shape[0] * pixels.shape[1])


class TestPillowCodecs:
    @pytest.mark.parametrize("kind", PILLOW, ids=lambda kind: kind.base_name)
    def test_rate_and_quality_rise_along_the_grid(self, kind):
        codec = kind()
        files = [codec.encode(PHOTOGRAPH, value) for value in codec.setting.grid]
        pictures = [codec.decode(file, PHOTOGRAPH.shape[:2]) for file in files]
        assert all(picture.shape == PHOTOGRAPH.shape and picture.dtype == np.uint8 for picture in pictures)
        sizes, quality = [len(file) for file in files], [psnr(PHOTOGRAPH, picture) for picture in pictures]
        assert sizes == sorted(set(sizes)) and quality == sorted(set(quality))
        assert quality[0] > 14 and quality[-1] > 33
        # The file is one that others read: Pillow finds its kind by its content.
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(files[3])).convert("RGB")), pictures[3])
        assert codec.encode(PHOTOGRAPH, codec.setting.grid[3]) == files[3]

    @pytest.mark.parametrize("kind", PILLOW, ids=lambda kind: kind.base_name)
    def test_what_is_no_such_file_is_refused(self, kind):
        codec = kind()
        with pytest.raises(ClassicalCodecError, match=f"{kind.base_name} cannot decode 8 bytes"):
            codec.decode(b"no photo", (8, 8))
        file = codec.encode(PHOTOGRAPH, codec.setting.grid[0])
        with pytest.raises(ClassicalCodecError, match=r"height and width \(128, 160\), not \(160, 128\)"):
            codec.decode(file, (160, 128))

    def test_a_picture_that_a_format_cannot_hold(self):
        with pytest.raises(ClassicalCodecError, match="webp cannot code a picture of 16400x1 at quality 5"):
            WebP().encode(np.zeros((1, 16400, 3), np.uint8), 5)

    @pytest.mark.parametrize(("subsampling", "pillows"), [("4:2:0", 2), ("4:2:2", 1), ("4:4:4", 0)])
    @pytest.mark.parametrize("quality", [75, 75.5])
    def test_jpeg_has_the_subsampling_that_it_states(self, subsampling, pillows, quality):
        with Image.open(io.BytesIO(Jpeg(subsampling).encode(PHOTOGRAPH, quality))) as image:
            assert JpegImagePlugin.get_sampling(image) == pillows

    def test_jpeg_at_whole_qualities_is_pillows_default(self):
        stream = io.BytesIO()
        Image.fromarray(PHOTOGRAPH).save(stream, format="JPEG", quality=75)
        assert Jpeg().encode(PHOTOGRAPH, 75) == stream.getvalue()
        optimized = Jpeg(optimize=True).encode(PHOTOGRAPH, 75)
        assert len(optimized) < len(stream.getvalue())
        size = PHOTOGRAPH.shape[:2]
        assert np.array_equal(Jpeg().decode(optimized, size), Jpeg().decode(stream.getvalue(), size))

    def test_jpeg_between_whole_qualities(self):
        from lightning_modules.classical.pillow_codecs import _scaled_tables

        for quality in (5, 20, 50, 63, 75, 99):  # where libjpeg's factor is a whole number of per cent
            with Image.open(io.BytesIO(Jpeg().encode(PHOTOGRAPH, quality))) as image:
                assert list(image.quantization.values()) == _scaled_tables(quality)
        sizes = [len(Jpeg().encode(PHOTOGRAPH, quality)) for quality in (75, 75.3, 75.6, 76)]
        assert sizes == sorted(set(sizes)) and sizes[0] < sizes[-1]

    def test_avif_does_not_depend_on_the_machines_cores(self, monkeypatch):
        pixels = np.tile(photographs.astronaut(), (1, 2, 1))  # 1024x512: room for two tiles
        one = Avif(speed=10).encode(pixels, 40)
        monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 8)
        assert Avif(speed=10).encode(pixels, 40) == one
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="AVIF", quality=40, speed=10)
        assert stream.getvalue() != one, "with Pillow's defaults it does"

    def test_names_and_descriptions(self):
        assert [CODECS[name]().name for name in CODECS] == list(CODECS)
        assert Jpeg("4:4:4").name == "jpeg-subsampling_444" and Avif(speed=4).name == "avif-speed_4"
        assert Bpg(bit_depth=10, colour_space="rgb").name == "bpg-bit_depth_10-colour_space_rgb"
        for codec in (kind() for kind in PILLOW):
            described = json.loads(json.dumps(codec.describe()))
            assert "Pillow " in described["encoder"] and any(c.isdigit() for c in described["encoder"])
        assert Jpeg().describe()["subsampling"] == "4:2:0"

    @pytest.mark.parametrize(
        ("codec", "value", "message"),
        [
            (Jpeg(), 0, "jpeg takes quality 1 to 100, not 0"),
            (Avif(), 40.5, "avif takes whole numbers as quality, not 40.5"),
            (JpegXl(), 100, "jxl takes quality 0 to 99.9, not 100"),
            (WebP(), float("nan"), "webp takes quality 0 to 100, not nan"),
            (Vtm(), 64, "vtm takes qp 0 to 63, not 64"),
        ],
        ids=lambda value: getattr(value, "base_name", None),
    )
    def test_values_out_of_range(self, codec, value, message):
        with pytest.raises(ClassicalCodecError, match=message):
            codec.encode(PHOTOGRAPH, value)

    @pytest.mark.parametrize("make", [lambda: WebP(7), lambda: Avif(11), lambda: JpegXl(0)])
    def test_options_out_of_range(self, make):
        with pytest.raises(ClassicalCodecError, match="correct --"):
            make()

    def test_a_plugin_that_is_missing(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ClassicalCodecError, match="pip install pillow-jxl-plugin"):
            JpegXl().check_available()


# CompressAI's results/image/kodak/{jpeg,webp}.json (Pillow 7.1.2: IJG's libjpeg 9d, libwebp 1.1), made by its
# compressai.utils.bench at Pillow's defaults; qualities 5, 10, ..., 95.
PUBLISHED = {
    Jpeg: {5: (0.221153, 23.7799), 50: (0.906001, 32.0587), 75: (1.368827, 34.3943), 95: (3.401340, 40.5567)},
    WebP: {5: (0.234419, 28.3284), 75: (0.998388, 35.1042)},
}


class TestPublishedFigures:
    @pytest.mark.parametrize("kind", PUBLISHED, ids=lambda kind: kind.base_name)
    def test_kodak(self, kind, data_root):
        pictures = [np.asarray(Image.open(path)) for path in sorted((data_root / "kodak").glob("*.png"))]
        assert len(pictures) == 24
        for quality, (rate, decibels) in PUBLISHED[kind].items():
            files = [kind().encode(pixels, quality) for pixels in pictures]
            decoded = [kind().decode(file, pixels.shape[:2]) for file, pixels in zip(files, pictures, strict=True)]
            measured_rate = np.mean([bpp(file, pixels) for file, pixels in zip(files, pictures, strict=True)])
            measured = np.mean([psnr(pixels, x) for pixels, x in zip(pictures, decoded, strict=True)])
            if kind is WebP:  # libwebp has kept its bits: equal to the digits printed above
                assert measured_rate == pytest.approx(rate, abs=1e-6)
                assert measured == pytest.approx(decibels, abs=1e-4)
            else:  # libjpeg-turbo's chroma filters are not IJG's: slightly fewer bits, up to 0.13 dB better
                assert 0.997 * rate < measured_rate < 1.0001 * rate
                assert decibels < measured < decibels + 0.14


def synthetic(rate, setting: Setting):
    """A codec that exists only as rate against setting, and the list of what is asked of it."""
    asked = []

    class Synthetic(Jpeg):
        base_name = "synthetic"

    Synthetic.setting = setting

    def code(value: float) -> Trial:
        asked.append(value)
        return Trial(value, b"", 0.0, rate(value))

    return Synthetic(), code, asked


class TestSearch:
    @pytest.mark.parametrize("kind", [Jpeg, WebP, JpegXl, Jpeg2000], ids=lambda kind: kind.base_name)
    @pytest.mark.parametrize("target", [0.6, 1.7])
    def test_continuous_settings_come_within_a_per_cent(self, kind, target):
        codec = kind()
        pixels = photographs.astronaut()[:256, :256]

        def code(value: float) -> Trial:
            data = codec.encode(pixels, value)
            return Trial(value, data, 0.0, bpp(data, pixels))

        found = find_rate(codec, code, target, "astronaut")
        assert abs(found.bpp / target - 1) <= 0.01
        assert codec.encode(pixels, found.value) == found.data

    @pytest.mark.parametrize("target", [0.9, 1.5, 3.1])
    def test_whole_numbers_come_as_near_as_they_can(self, target):
        codec = Avif(speed=10)

        def code(value: float) -> Trial:
            data = codec.encode(PHOTOGRAPH, value)
            return Trial(value, data, 0.0, bpp(data, PHOTOGRAPH))

        found = find_rate(codec, code, target, "astronaut")
        best = min((code(value).bpp for value in range(101)), key=lambda rate: abs(rate - target))
        assert found.bpp == best

    def test_a_setting_that_lowers_the_rate(self):
        codec, code, asked = synthetic(
            lambda qp: 8 * 2 ** (-qp / 6), Setting("qp", 0, 63, continuous=False, raises_rate=False, grid=())
        )
        found = find_rate(codec, code, 0.3, "picture")
        assert found.value == 28 and len(asked) <= 9  # 6 log2(8 / 0.3) = 28.4
        assert find_rate(codec, code, 8, "picture").value == 0, "an end of the range can be reached"
        assert find_rate(codec, code, 8 * 2 ** (-63 / 6), "picture").value == 63

    def test_rates_that_are_leapt_over(self):
        codec, code, _ = synthetic(
            lambda value: 0.2 if value < 40 else 0.5, Setting("quality", 0, 100, True, raises_rate=True, grid=())
        )
        found = find_rate(codec, code, 0.3, "picture")
        assert found.bpp == 0.2 and not within_tolerance(found.bpp, 0.3)

    @pytest.mark.parametrize("continuous", [True, False])
    @pytest.mark.parametrize("target", [0.05, 12])
    def test_rates_out_of_reach(self, continuous, target):
        setting = Setting("quality", 1, 100, continuous, raises_rate=True, grid=())
        codec, code, _ = synthetic(lambda value: value / 10, setting)
        with pytest.raises(
            UnreachableRateError, match=r"cannot code kodim01.png at .* 0.1000 bpp at quality 1 to 10.0"
        ):
            find_rate(codec, code, target, "kodim01.png")


class TestColour:
    def test_by_hand(self):
        # H.273: Y = 0.2126 R + 0.7152 G + 0.0722 B, Cb = 128 + (B - Y) / 1.8556, Cr = 128 + (R - Y) / 1.5748
        pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)
        assert rgb_to_ycbcr(pixels)[:, 0].T.tolist() == [[54, 99, 255], [182, 30, 12], [18, 255, 116], [77, 128, 128]]

    def test_there_and_back(self):
        back = ycbcr_to_rgb(rgb_to_ycbcr(PHOTOGRAPH))
        assert psnr(PHOTOGRAPH, back) > 52
        bias = (back.astype(int) - PHOTOGRAPH).mean()
        assert abs(bias) < 0.05, "nothing is cut off"


def program(path: Path, body: str) -> None:
    """An executable that notes its arguments in `{path}.json`, and then does `body`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!{sys.executable}\nimport json, pathlib, shutil, sys\na = sys.argv[1:]\n"
        f"if a not in (['-h'], ['--help']): json.dump(a, open({str(path) + '.json'!r}, 'w'))\n{body}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def arguments(path: Path) -> list[str]:
    return json.loads(Path(f"{path}.json").read_text())


VTM_ENCODER = """
print("\\nVVCSoftware: VTM Encoder Version 23.4 [Linux][GCC 12.2.0][64 bit]")
if "--help" in a: sys.exit(1)
shutil.copyfile(a[a.index("-i") + 1], a[a.index("-b") + 1])
"""
HM_ENCODER = VTM_ENCODER.replace(
    "VVCSoftware: VTM Encoder Version 23.4 ", "HM software: Encoder Version [16.20] (including RExt)"
)
DECODER = "shutil.copyfile(a[a.index('-b') + 1], a[a.index('-o') + 1])"


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder on PATH, with nothing else on it; temporary files go to a folder beside it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


class TestReferenceSoftware:
    """Stand-ins in the places of encoder and decoder keep the planes as they are, so all around the call is real."""

    @pytest.mark.parametrize(
        ("kind", "version", "cfg"),
        [
            (Vtm, "VTM Encoder Version 23.4", "encoder_intra_vtm.cfg"),
            (Hm, "Encoder Version [16.20]", "encoder_intra_main_rext.cfg"),
        ],
        ids=["vtm", "hm"],
    )
    def test_the_call(self, kind, version, cfg, programs):
        encoder, decoder = programs / kind.encoder_names[0], programs / kind.decoder_names[0]
        program(encoder, VTM_ENCODER if kind is Vtm else HM_ENCODER)
        program(decoder, DECODER)
        (programs.parent / "cfg").mkdir()
        (programs.parent / "cfg" / cfg).write_text("QP : 32\n")
        codec = kind()
        codec.check_available()
        assert codec.describe() == {
            "colour_space": "YCbCr BT.709 full range",
            "subsampling": "4:4:4",
            "bit_depth": 8,
            "config": cfg,
            "encoder": version,
        }
        data = codec.encode(PHOTOGRAPH, 37)
        planes = np.frombuffer(data, np.uint8).reshape(3, 128, 160)
        assert np.array_equal(planes, rgb_to_ycbcr(PHOTOGRAPH)), "planar 4:4:4, Y first"
        told = arguments(encoder)
        assert told[told.index("-c") + 1] == str(programs.parent / "cfg" / cfg)
        pairs = {"-q": "37", "-wdt": "160", "-hgt": "128", "-f": "1", "-o": "/dev/null"}
        assert {flag: told[told.index(flag) + 1] for flag in pairs} == pairs
        assert {"--InputChromaFormat=444", "--InputBitDepth=8", "--ConformanceWindowMode=1"} < set(told)
        decoded = codec.decode(data, (128, 160))
        assert np.array_equal(decoded, ycbcr_to_rgb(rgb_to_ycbcr(PHOTOGRAPH)))
        assert arguments(decoder)[-2:] == ["-d", "8"]
        assert not list(Path(tempfile.gettempdir()).iterdir()), "temporary files are removed"
        with pytest.raises(ClassicalCodecError, match="wrote 61440 samples; a picture of 160x129 has 61920"):
            codec.decode(data, (129, 160))

    def test_what_the_program_says_is_in_the_error(self, programs, tmp_path):
        config = tmp_path / "my.cfg"
        config.touch()
        body = "sys.stderr.write('Error: Level 9 is not supported'); sys.exit(3)"
        program(programs / "encode", body)
        program(programs / "decode", body)
        codec = Vtm(str(programs / "encode"), str(programs / "decode"), str(config))
        with pytest.raises(ClassicalCodecError, match=r"encode .* failed \(3\) and said: Error: Level 9 is not supp"):
            codec.encode(PHOTOGRAPH, 37)
        with pytest.raises(ClassicalCodecError, match=r"decode .* failed \(3\)"):
            codec.decode(b"stream", (128, 160))
        with pytest.raises(ClassicalCodecError, match="does not tell a version"):
            codec.describe()
        assert not list(Path(tempfile.gettempdir()).iterdir())

    def test_an_encoder_that_writes_nothing(self, programs, tmp_path):
        config = tmp_path / "my.cfg"
        config.touch()
        program(programs / "EncoderApp", "pass")
        with pytest.raises(ClassicalCodecError, match="ended well but wrote no file"):
            Vtm(config=str(config)).encode(PHOTOGRAPH, 37)

    def test_what_is_missing_is_named(self, programs, tmp_path):
        with pytest.raises(ClassicalCodecError, match=r"no EncoderAppStatic or EncoderApp on PATH.*--vtm.encoder"):
            Vtm().check_available()
        with pytest.raises(ClassicalCodecError, match=r"no TAppEncoderStatic or TAppEncoder on PATH"):
            Hm().encode(PHOTOGRAPH, 30)
        with pytest.raises(ClassicalCodecError, match=r"--hm\.decoder nowhere is no executable file"):
            Hm(decoder="nowhere").decode(b"stream", (8, 8))
        program(programs / "EncoderApp", VTM_ENCODER)
        with pytest.raises(ClassicalCodecError, match=r"no DecoderAppStatic or DecoderApp on PATH.*--vtm.decoder"):
            Vtm().check_available()
        program(programs / "DecoderApp", DECODER)
        with pytest.raises(ClassicalCodecError, match=r"no configuration file .*encoder_intra_vtm.cfg.*--vtm.config"):
            Vtm().check_available()


class TestBpg:
    def test_the_call(self, programs):
        program(
            programs / "bpgenc",
            "if '-h' in a: print('BPG Image Encoder version 0.9.8\\nusage: bpgenc'); sys.exit(1)\n"
            "shutil.copyfile(a[-1], a[a.index('-o') + 1])",
        )
        program(programs / "bpgdec", "shutil.copyfile(a[-1], a[a.index('-o') + 1])")
        codec = Bpg()
        codec.check_available()
        assert codec.describe()["encoder"] == "BPG Image Encoder version 0.9.8"
        data = codec.encode(PHOTOGRAPH, 32)
        told = arguments(programs / "bpgenc")
        pairs = {"-q": "32", "-f": "444", "-e": "x265", "-c": "ycbcr", "-b": "8"}
        assert {flag: told[told.index(flag) + 1] for flag in pairs} == pairs
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), PHOTOGRAPH), "it is given a lossless PNG"
        assert np.array_equal(codec.decode(data, (128, 160)), PHOTOGRAPH)
        with pytest.raises(ClassicalCodecError, match="not \\(8, 8\\)"):
            codec.decode(data, (8, 8))
        program(programs / "bpgdec", "pass")
        with pytest.raises(ClassicalCodecError, match="wrote no readable PNG"):
            codec.decode(data, (128, 160))
        assert not list(Path(tempfile.gettempdir()).iterdir())

    def test_what_is_missing_is_named(self, programs):
        with pytest.raises(ClassicalCodecError, match=r"no bpgenc on PATH. Get libbpg .*--bpg.encoder"):
            Bpg().check_available()
