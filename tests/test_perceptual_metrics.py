"""DISTS and PieAPP against piq, with random weights of the real architectures in files as published."""

from pathlib import Path

import piq
import pytest
import skimage
import torch
from piq.pieapp import PieAPPModel
from torch import Tensor, nn
from torchvision.models import vgg16

from callbacks.metrics.dists import MIN_SIDE, dists_distance, load_dists
from callbacks.metrics.pieapp import load_pieapp, pieapp_score
from callbacks.metrics.value import NotAvailable
from callbacks.perceptual import Dists, PieApp
from callbacks.result_record import ResultRecord
from lightning_modules.errors import PretrainedError
from tests.callback_helpers import TinyCodec, loader, record, run_test

SETTING = "trainer.callbacks: callbacks.{}.init_args"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch.hub cache with all three files under their real names."""
    home = tmp_path_factory.mktemp("hub")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = torch.rand(2, 1, 1475, 1, 1)
        alpha, beta = weights / weights.sum()
        torch.save({"alpha": alpha, "beta": beta}, folder / "dists_weights.pt")
        network = PieAPPModel()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):  # so that differences of images reach the score
                nn.init.kaiming_normal_(module.weight)
        state = network.state_dict()
        state["fc2_weight.weight"].abs_()  # weights of patches are positive: their sum is not near 0
        state["ref_score_subtract.weight"] = state["ref_score_subtract.weight"].flatten()  # as published
        torch.save(state, folder / "PieAPPv0.1.pth")
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in vgg16().state_dict().items()}
        # One number stands for the classifier, which DISTS does not use.
        vgg = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
        for key in vgg:
            if key.startswith("features."):
                vgg[key] = torch.rand(shapes[key]) * 0.1
                if key.endswith("weight"):
                    nn.init.kaiming_normal_(vgg[key])
        torch.save(vgg, folder / "vgg16-397923af.pth")
    return home


@pytest.fixture
def cache(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(hub))
    return hub / "hub" / "checkpoints"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: no network anywhere
    return tmp_path / "hub" / "checkpoints"


def pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two photographs (2, 3, H, W), and noisy ones."""
    astronaut = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None]
    image = torch.cat([astronaut[..., :height, :width], astronaut[..., -height:, -width:]])
    strength = torch.tensor([20, 60])[:, None, None, None]
    noise = strength * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    return image / 255, (image + noise).round().clamp(0, 255) / 255


class TestDists:
    @pytest.mark.filterwarnings("ignore::UserWarning:torchvision", "error:.*scale_factor")
    @pytest.mark.parametrize(("height", "width"), [(96, 130), (260, 300)])  # the second is resized
    def test_equals_piq(self, cache, height, width):
        image, x_hat = pictures(height, width)
        expected = piq.DISTS(reduction="none")(x_hat, image).tolist()
        network = load_dists(None, None, "a")
        assert dists_distance(network, image, x_hat) == pytest.approx(expected, abs=1e-6)
        assert expected[1] > expected[0] > 1e-3
        assert dists_distance(network, image, image) == pytest.approx([0, 0], abs=1e-5)

    def test_real_backbone_from_a_file(self, cache, data_root):
        path = str(data_root / "weights" / "vgg16_features_torchvision.pth")
        network = load_dists(str(cache / "dists_weights.pt"), path, "a")
        state = torch.load(path, weights_only=True)
        assert torch.equal(network.model.state_dict()["28.weight"], state["features.28.weight"])
        values = dists_distance(network, *pictures(64, 64))
        assert values[1] > values[0] > 1e-3

    def test_frozen_and_leaves_the_random_state(self, cache):
        before = torch.get_rng_state()
        network = load_dists(None, None, "a")
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(parameter.requires_grad for parameter in network.parameters()) and not network.training

    def test_kernels_of_the_pooling_follow_the_device(self, cache):
        network = load_dists(None, None, "a")
        dists_distance(network, *pictures(32, 32))
        network.follow(torch.device("meta"))
        meta = torch.empty(1, 3, 32, 32, device="meta")
        assert network(meta, meta).device.type == "meta"

    def test_small_images(self, cache):
        network = load_dists(None, None, "a")
        assert isinstance(dists_distance(network, *pictures(MIN_SIDE, MIN_SIDE))[0], float)
        values = dists_distance(network, *pictures(MIN_SIDE - 1, 64))
        assert len(values) == 2 and isinstance(values[0], NotAvailable) and "17 pixels" in values[0].reason
        last = [network.get_features(torch.zeros(1, 3, 64, side))[-1] for side in (MIN_SIDE, MIN_SIDE - 1)]
        assert [stage.shape[-1] for stage in last] == [2, 1]

    def test_missing_files_name_place_and_setting(self, empty_cache, hub):
        for weights, file_name, setting in (
            (None, "dists_weights.pt", "weights_path"),
            (str(hub / "hub" / "checkpoints" / "dists_weights.pt"), "vgg16-397923af.pth", "backbone_path"),
        ):
            with pytest.raises(PretrainedError) as caught:
                load_dists(weights, None, SETTING.format("Dists"))
            for part in (file_name, str(empty_cache), f"callbacks.Dists.init_args.{setting}"):
                assert part in str(caught.value)

    def test_refuses_other_files(self, cache, tmp_path):
        with pytest.raises(PretrainedError, match=r"DISTS weights: .*missing keys \['alpha', 'beta'\]"):
            load_dists(str(cache / "PieAPPv0.1.pth"), None, "a")
        torch.save({"alpha": torch.ones(1, 3, 1, 1), "beta": torch.ones(1, 3, 1, 1)}, tmp_path / "short.pt")
        with pytest.raises(PretrainedError, match=r"alpha has shape \(1, 3, 1, 1\) instead of \(1, 1475, 1, 1\)"):
            load_dists(str(tmp_path / "short.pt"), None, "a")
        (tmp_path / "text.pt").write_text("no weights")
        with pytest.raises(PretrainedError, match=r"DISTS VGG16 backbone: cannot use .*text\.pt .*a\.backbone_path"):
            load_dists(None, str(tmp_path / "text.pt"), "a")


class TestPieApp:
    @pytest.mark.parametrize(("height", "width", "stride"), [(64, 64, 27), (91, 120, 27), (100, 70, 9)])
    def test_equals_piq(self, cache, height, width, stride):
        image, x_hat = pictures(height, width)
        expected = piq.PieAPP(reduction="none", stride=stride)(x_hat, image).tolist()
        values = pieapp_score(load_pieapp(None, "a"), image, x_hat, stride)
        assert values == pytest.approx(expected, rel=1e-4)
        assert abs(expected[0] - expected[1]) > 1e-2 * abs(expected[1])

    def test_more_patches_than_are_worked_on_at_a_time(self, cache, monkeypatch):
        image, x_hat = pictures(91, 120)
        network = load_pieapp(None, "a")
        whole = pieapp_score(network, image, x_hat)
        monkeypatch.setattr("callbacks.metrics.pieapp._PATCHES_AT_A_TIME", 4)
        assert pieapp_score(network, image, x_hat) == pytest.approx(whole, rel=1e-5)

    def test_small_images(self, cache):
        values = pieapp_score(load_pieapp(None, "a"), *pictures(63, 80))
        assert len(values) == 2 and isinstance(values[0], NotAvailable) and "64 pixels" in values[0].reason

    def test_frozen_and_leaves_the_random_state(self, cache):
        before = torch.get_rng_state()
        network = load_pieapp(None, "a")
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_missing_file_names_place_and_setting(self, empty_cache):
        with pytest.raises(PretrainedError) as caught:
            PieApp().prepare(torch.device("cpu"))
        for part in ("PieAPPv0.1.pth", str(empty_cache), "callbacks.PieApp.init_args.weights_path"):
            assert part in str(caught.value)

    def test_refuses_other_files_and_strides(self, cache):
        with pytest.raises(PretrainedError, match=r"PieAPP network: cannot use .* missing keys"):
            load_pieapp(str(cache / "dists_weights.pt"), "a")
        with pytest.raises(ValueError, match="stride must be at least 1"):
            PieApp(stride=0)


def test_callbacks_record_figures_and_protocols(tmp_path, cache):
    metrics = [Dists(weights_path=str(cache / "dists_weights.pt")), PieApp(stride=40)]
    run_test(tmp_path, *metrics, ResultRecord(), data=loader(2, batch_size=2, side=64))
    written = record(tmp_path)
    assert written["mean"]["dists"] > 0 and abs(written["mean"]["pieapp"]) > 0
    image = torch.stack([loader(2, side=64).dataset[i]["image"] for i in range(2)])
    expected = dists_distance(load_dists(None, None, "a"), image, TinyCodec().code(image))
    assert written["mean"]["dists"] == pytest.approx(sum(expected) / 2, abs=1e-6)
    protocols = written["protocols"]
    assert protocols["dists"]["higher_is_better"] is protocols["pieapp"]["higher_is_better"] is False
    assert protocols["dists"]["weights"] == "dists_weights.pt" and "256" in protocols["dists"]["resize"]
    assert protocols["pieapp"]["stride"] == 40 and protocols["pieapp"]["weights"] == "PieAPPv0.1.pth"


def test_without_weights_they_are_recorded_as_not_available(tmp_path, empty_cache):
    with pytest.warns(UserWarning, match="will be recorded as not available"):
        run_test(tmp_path, Dists(), PieApp(), ResultRecord(), data=loader(1))
    written = record(tmp_path)
    assert "dists_weights.pt" in written["not_available"]["dists"]
    assert "PieAPPv0.1.pth" in written["not_available"]["pieapp"]
    assert not {"dists", "pieapp"} & written["mean"].keys()
