import doctest
import io
import math
import os
import warnings
from pathlib import Path

import lpips
import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from pytorch_msssim import ms_ssim as package_ms_ssim
from scipy.ndimage import correlate1d
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
from torchvision.models import alexnet, vgg16

import callbacks.metrics.mse
import callbacks.metrics.psnr
from callbacks.metrics.lpips import lpips_distance
from callbacks.metrics.ms_ssim import ms_ssim
from callbacks.metrics.mse import mse
from callbacks.metrics.psnr import psnr
from callbacks.metrics.value import NotAvailable
from lightning_modules.errors import PretrainedError
from lightning_modules.losses.lpips_network import backbone_name, load_lpips

DATA_ROOT = os.environ.get("DATA_ROOT")
needs_data = pytest.mark.skipif(DATA_ROOT is None, reason="DATA_ROOT is not set")


def to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    return Image.open(file)


def photograph() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())


def data(*parts: str) -> Path:
    assert DATA_ROOT is not None
    return Path(DATA_ROOT).joinpath(*parts)


@pytest.fixture(scope="module")
def alex_path() -> str:
    return str(data("weights", "alexnet_features_torchvision.pth"))


@pytest.fixture
def hub_with_backbones(tmp_path, monkeypatch) -> None:
    """A torch.hub cache with full AlexNet and VGG16 files: real features, classifiers that LPIPS does not need."""
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for architecture, file_name, features in (
        (alexnet, "alexnet-owt-7be5be79.pth", "alexnet_features_torchvision.pth"),
        (vgg16, "vgg16-397923af.pth", "vgg16_features_torchvision.pth"),
    ):
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in architecture().state_dict().items()}
        state = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
        state |= torch.load(data("weights", features), weights_only=True)
        torch.save(state, checkpoints / file_name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


class TestPsnr:
    @pytest.mark.parametrize("quality", [5, 50, 95])
    def test_equals_skimage(self, quality):
        original, coded = photograph(), jpeg(photograph(), quality)
        expected = peak_signal_noise_ratio(np.asarray(original), np.asarray(coded))
        assert psnr(to_tensor(original), to_tensor(coded)).item() == pytest.approx(expected, abs=1e-5)

    def test_is_per_image(self):
        image = torch.zeros(3, 3, 8, 8)
        x_hat = torch.stack([torch.full((3, 8, 8), v) for v in (1.0, 0.1, 0.0)])
        values = psnr(image, x_hat)
        assert values.dtype == torch.float64
        assert values[:2].tolist() == pytest.approx([0, 20], abs=1e-6)
        assert values[2] == math.inf

    @pytest.mark.parametrize("module", [callbacks.metrics.psnr, callbacks.metrics.mse])
    def test_doctest(self, module):
        result = doctest.testmod(module)
        assert result.attempted > 0 and result.failed == 0


def test_mse_equals_skimage():
    original, coded = photograph(), jpeg(photograph(), 30)
    expected = mean_squared_error(np.asarray(original) / 255, np.asarray(coded) / 255)
    image, x_hat = torch.cat([to_tensor(original)] * 2), torch.cat([to_tensor(coded), to_tensor(original)])
    values = mse(image, x_hat)
    assert values.dtype == torch.float64
    assert values.tolist() == [pytest.approx(expected, rel=1e-6), 0]


def reference_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM of (C, H, W) in [0, 1] as Wang et al. (2003) write it, in float64 with SciPy's filters."""
    window = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, axis=1), window, axis=2)[:, 5:-5, 5:-5]

    def halve(values: np.ndarray) -> np.ndarray:
        values = np.pad(values, ((0, 0), (values.shape[1] % 2,) * 2, (values.shape[2] % 2,) * 2))
        height, width = values.shape[1] // 2, values.shape[2] // 2
        return values[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2).mean(axis=(2, 4))

    value = np.ones(len(x))
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_x, mean_y = blur(x), blur(y)
        variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
        term = (2 * (blur(x * y) - mean_x * mean_y) + 0.03**2) / (variances + 0.03**2)
        if scale == 4:
            term *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        value *= np.maximum(term.mean(axis=(1, 2)), 0) ** weight
        x, y = halve(x), halve(y)
    return float(value.mean())


class TestMsSsim:
    @pytest.mark.parametrize("quality", [5, 30, 95])
    @pytest.mark.parametrize("size", [(161, 161), (256, 256), (190, 333), (512, 403)])
    def test_equals_the_definition(self, size, quality):
        picture = photograph().crop((0, 0, size[1], size[0]))
        image, x_hat = to_tensor(picture), to_tensor(jpeg(picture, quality))
        expected = reference_ms_ssim(image[0].double().numpy(), x_hat[0].double().numpy())
        assert ms_ssim(image, x_hat) == [pytest.approx(expected, abs=2e-7)]
        window = torch.exp(-((torch.arange(11).double() - 5) ** 2) / (2 * 1.5**2))
        window = (window / window.sum()).expand(3, 1, 1, 11)
        package = package_ms_ssim(image.double(), x_hat.double(), data_range=1, win=window)
        assert ms_ssim(image, x_hat) == [pytest.approx(package.item(), abs=2e-7)]

    @pytest.mark.parametrize("level", [1, 8])
    @pytest.mark.parametrize("picture", ["white", "black", "edge", "checks"])
    def test_flat_areas_where_rounding_errors_would_show(self, picture, level):
        columns, rows = torch.arange(256.0), torch.arange(256.0)[:, None]
        x = {
            "white": torch.ones(256, 256),
            "black": torch.zeros(256, 256),
            "edge": (columns > 128).float().expand(256, 256),
            "checks": (columns // 8 + rows // 8) % 2,
        }[picture].expand(1, 3, 256, 256)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        x_hat = (255 * x + level * noise).round().clamp(0, 255) / 255
        expected = reference_ms_ssim(x[0].double().numpy(), x_hat[0].double().numpy())
        assert ms_ssim(x, x_hat) == [pytest.approx(expected, abs=2e-7)]

    def test_unrelated_and_inverted_images(self):
        x, y = torch.rand(2, 1, 3, 200, 180, generator=torch.Generator().manual_seed(0))
        expected = reference_ms_ssim(x[0].double().numpy(), y[0].double().numpy())
        assert ms_ssim(x, y) == [pytest.approx(expected, abs=2e-7)]
        assert 0.05 < expected < 0.5
        assert ms_ssim(x, 1 - x) == [0]  # negative contrast

    def test_does_not_depend_on_the_batch_or_on_the_precision_of_products(self):
        picture = photograph()
        image = torch.cat([to_tensor(picture.crop((i, 0, i + 200, 180))) for i in (0, 100, 250)])
        x_hat = torch.cat([to_tensor(jpeg(picture.crop((i, 0, i + 200, 180)), 20)) for i in (0, 100, 250)])
        alone = [ms_ssim(x[None], y[None])[0] for x, y in zip(image, x_hat, strict=True)]
        assert ms_ssim(image, x_hat) == alone
        assert ms_ssim(image[:, :1], x_hat[:, :1]) != alone  # one channel is fine, and another figure
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")  # bfloat16, where the CPU or GPU has it
        try:
            assert ms_ssim(image, x_hat) == alone
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("quality", [5, 50])
    def test_agrees_with_torchmetrics(self, quality):
        picture = photograph().crop((100, 0, 340, 200))
        image, x_hat = to_tensor(picture), to_tensor(jpeg(picture, quality))
        expected = multiscale_structural_similarity_index_measure(x_hat, image, data_range=1.0)
        # torchmetrics pads the borders by reflection and crops them again; pytorch_msssim does not pad.
        assert ms_ssim(image, x_hat)[0] == pytest.approx(expected.item(), abs=2e-3)

    def test_identical_images(self):
        image = to_tensor(photograph().crop((0, 0, 200, 200)))
        assert ms_ssim(image, image) == [pytest.approx(1, abs=1e-15)]

    def test_small_images_are_not_available(self):
        image = torch.rand(2, 3, 160, 300)
        values = ms_ssim(image, image)
        assert len(values) == 2 and all(isinstance(value, NotAvailable) for value in values)
        assert "160 pixels" in values[0].reason
        assert ms_ssim(torch.rand(1, 3, 161, 161), torch.rand(1, 3, 161, 161))[0] < 1


class TestLpipsNetwork:
    @needs_data
    def test_a_file_with_the_published_backbone_is_known(self, alex_path, tmp_path):
        assert backbone_name("alex", alex_path) == backbone_name("alex", True) == "torchvision IMAGENET1K_V1"
        vgg_path = str(data("weights", "vgg16_features_torchvision.pth"))
        assert backbone_name("vgg", vgg_path) == backbone_name("vgg", True)
        state = torch.load(alex_path, weights_only=True)
        state["features.0.bias"] += 1
        torch.save(state, tmp_path / "mine.pth")
        assert backbone_name("alex", str(tmp_path / "mine.pth")).startswith("mine.pth (")
        assert backbone_name("alex", str(tmp_path / "none.pth")) == "none.pth"

    def test_stays_frozen_and_passes_gradients(self):
        parent = torch.nn.ModuleList([load_lpips("alex", pretrained=False)])
        parent.train()
        assert not any(module.training for module in parent[0].modules())
        assert not any(p.requires_grad for p in parent.parameters())
        x, x_hat = torch.rand(2, 3, 40, 40) * 2 - 1, (torch.rand(2, 3, 40, 40) * 2 - 1).requires_grad_()
        distance = parent[0](x, x_hat)
        assert distance.shape == (2,)
        distance.sum().backward()
        assert x_hat.grad.abs().sum() > 0

    def test_loading_is_silent_and_leaves_the_random_state(self, capfd):
        before = torch.get_rng_state()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_lpips("alex", pretrained=False)
        assert torch.equal(torch.get_rng_state(), before)
        assert capfd.readouterr() == ("", "")

    def test_missing_download_names_part_file_place_and_setting(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: no network anywhere
        with pytest.raises(PretrainedError) as caught:
            load_lpips("alex", pretrained=True, setting="model.init_args.lpips.pretrained")
        place = str(tmp_path / "hub" / "checkpoints")
        for part in (
            "LPIPS AlexNet backbone",
            "alexnet-owt-7be5be79.pth",
            place,
            "model.init_args.lpips.pretrained",
        ):
            assert part in str(caught.value)

    def test_unusable_files(self, tmp_path):
        with pytest.raises(PretrainedError, match=r"nowhere.pth.*given by a.setting.*FileNotFoundError"):
            load_lpips("alex", str(tmp_path / "nowhere.pth"), setting="a.setting")
        (tmp_path / "text.pth").write_text("not a checkpoint")
        with pytest.raises(PretrainedError, match="LPIPS AlexNet backbone: cannot use"):
            load_lpips("alex", str(tmp_path / "text.pth"))
        torch.save([1.0], tmp_path / "list.pth")
        with pytest.raises(PretrainedError, match="no state dict"):
            load_lpips("alex", str(tmp_path / "list.pth"))

    @needs_data
    def test_refuses_another_network_and_incomplete_files(self, tmp_path, alex_path):
        with pytest.raises(PretrainedError, match=r"features\.28\.weight"):
            load_lpips("alex", str(data("weights", "vgg16_features_torchvision.pth")))
        state = torch.load(alex_path, weights_only=True)
        torch.save(state | {"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "shape.pth")
        with pytest.raises(PretrainedError, match=r"features.0.weight has shape \(64, 3, 3, 3\)"):
            load_lpips("alex", str(tmp_path / "shape.pth"))
        del state["features.10.bias"]
        torch.save(state, tmp_path / "short.pth")
        with pytest.raises(PretrainedError, match=r"missing keys \['features.10.bias'\]"):
            load_lpips("alex", str(tmp_path / "short.pth"))


class TestLpips:
    @needs_data
    def test_published_example(self, alex_path):
        network = load_lpips("alex", alex_path)
        reference, p0, p1 = (to_tensor(Image.open(data("lpips_example", f"ex_{n}.png"))) for n in ("ref", "p0", "p1"))
        values = lpips_distance(network, "alex", reference.expand(2, -1, -1, -1), torch.cat([p0, p1]))
        assert values == [pytest.approx(0.722, abs=5e-4), pytest.approx(0.138, abs=5e-4)]

    @needs_data
    @pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # the package's own, in its own constructor
    def test_alex_equals_the_package_on_kodak(self, hub_with_backbones):
        """The package takes its backbone from torch.hub's cache by its own route."""
        reference = lpips.LPIPS(net="alex", verbose=False)
        network = load_lpips("alex", pretrained=True)
        for name, quality in (("kodim03.png", 10), ("kodim17.png", 50)):
            picture = Image.open(data("kodak", name))
            image, x_hat = to_tensor(picture), to_tensor(jpeg(picture, quality))
            for input_range, normalize in (("[-1,1]", True), ("[0,1]", False)):
                with torch.no_grad():
                    expected = reference(image, x_hat, normalize=normalize).item()
                value = lpips_distance(network, "alex", image, x_hat, input_range)[0]
                assert value == pytest.approx(expected, abs=1e-6)
                assert expected > 0.005

    @needs_data
    @pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
    def test_vgg_equals_the_package_on_kodak(self, hub_with_backbones):
        """From a file here, from torch.hub's cache there."""
        reference = lpips.LPIPS(net="vgg", verbose=False)
        network = load_lpips("vgg", str(data("weights", "vgg16_features_torchvision.pth")))
        for name, quality in (("kodim05.png", 10), ("kodim23.png", 50)):
            picture = Image.open(data("kodak", name)).crop((200, 100, 456, 356))
            image, x_hat = to_tensor(picture), to_tensor(jpeg(picture, quality))
            with torch.no_grad():
                expected = reference(2 * image - 1, 2 * x_hat - 1).item()
            assert lpips_distance(network, "vgg", image, x_hat) == [pytest.approx(expected, abs=1e-6)]
            assert expected > 0.05

    @needs_data
    def test_vgg_features_reach_the_network(self):
        network = load_lpips("vgg", str(data("weights", "vgg16_features_torchvision.pth")))
        image = to_tensor(photograph().crop((160, 32, 288, 160)))
        values = [
            lpips_distance(network, "vgg", image, to_tensor(jpeg(photograph(), quality).crop((160, 32, 288, 160))))[0]
            for quality in (5, 30, 90)
        ]
        assert values == sorted(values, reverse=True) and values[-1] > 0

    @pytest.mark.parametrize(("net", "smallest"), [("alex", 31), ("vgg", 16)])
    def test_smallest_image(self, net, smallest):
        network = load_lpips(net, pretrained=False)
        image, x_hat = torch.rand(2, 1, 3, smallest, smallest)
        assert lpips_distance(network, net, image, x_hat)[0] > 0
        with pytest.raises(RuntimeError, match="too small"):  # so the limit is not stricter than it must be
            network(image[..., 1:], x_hat[..., 1:])
        assert isinstance(lpips_distance(network, net, image[..., 1:], x_hat[..., 1:])[0], NotAvailable)

    def test_full_precision_is_local(self):
        network = load_lpips("alex", pretrained=False)
        convolutions = torch.backends.cudnn.conv
        before = convolutions.fp32_precision
        seen = []
        network.register_forward_hook(lambda *_: seen.append(convolutions.fp32_precision))
        lpips_distance(network, "alex", torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
        assert seen == ["ieee"] and convolutions.fp32_precision == before
