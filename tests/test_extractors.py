"""Feature extractors against the packages they come from, with random weights of the real architectures."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

from callbacks.extractors import ClipVision, FeatureExtractor, Inception, RandomFeatures
from callbacks.extractors.inception import FILE_NAME
from callbacks.metrics.frechet import frechet_distance
from lightning_modules.errors import PretrainedError

CPU = torch.device("cpu")


def photographs() -> Tensor:
    """uint8 (3, 3, 90, 120), neither square nor of the networks' size."""
    astronaut = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)
    return torch.stack([astronaut[:, 60 * i : 60 * i + 90, 200:320] for i in range(3)])


def ready(extractor: FeatureExtractor) -> FeatureExtractor:
    extractor.prepare(CPU)
    return extractor


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inception-v3 with random weights, under the name of the real ones."""

    class Fresh(FeatureExtractorInceptionV3):
        def load_state_dict(self, state: dict) -> None:  # type: ignore[override]
            """Keep the initial weights."""

    path = tmp_path_factory.mktemp("hub") / "hub" / "checkpoints" / FILE_NAME
    path.parent.mkdir(parents=True)
    torch.save({}, path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Fresh("inception-v3-compat", ["2048"], str(path))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # so that the differences of images reach the last layer
                nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path


class TestInception:
    def test_equals_torch_fidelity(self, inception_file):
        images = photographs()
        reference = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(inception_file))
        expected = reference(images)[0]
        features = ready(Inception(str(inception_file), resize="tf1_bilinear"))(images / 255)
        assert features.shape == (3, 2048) and features.dtype == torch.float32
        assert torch.equal(features, expected)
        assert expected.std(dim=0).mean() > 0.01 * expected.abs().mean()  # the images differ

    def test_default_is_the_fid_of_torchmetrics(self, inception_file):
        images = photographs()
        other = images.flip(3) // 2
        reference = FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=str(inception_file))
        reference.update(images, real=True)
        reference.update(other, real=False)
        extractor = ready(Inception(str(inception_file)))
        distance = frechet_distance(extractor(images / 255), extractor(other / 255))
        assert distance == pytest.approx(reference.compute().item(), rel=1e-3)

    def test_takes_weights_from_the_hub_cache(self, inception_file, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(inception_file.parents[2]))
        before = torch.get_rng_state()
        extractor = ready(Inception())
        assert torch.equal(torch.get_rng_state(), before)
        state = torch.load(inception_file, weights_only=True)
        assert torch.equal(extractor.network.state_dict()["fc.weight"], state["fc.weight"])
        assert not any(parameter.requires_grad for parameter in extractor.network.parameters())

    def test_missing_download_names_file_place_and_setting(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: no network anywhere
        with pytest.raises(PretrainedError) as caught:
            ready(Inception())
        place = str(tmp_path / "hub" / "checkpoints")
        for part in (FILE_NAME, place, "callbacks.extractors.Inception.init_args.weights_path"):
            assert part in str(caught.value)

    def test_unusable_files(self, tmp_path):
        with pytest.raises(PretrainedError, match=r"nowhere.pth.*weights_path.*FileNotFoundError"):
            ready(Inception(str(tmp_path / "nowhere.pth")))
        torch.save([1.0], tmp_path / "list.pth")
        with pytest.raises(PretrainedError, match="holds no state dict"):
            ready(Inception(str(tmp_path / "list.pth")))
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
        with pytest.raises(PretrainedError, match=r"of another network: .*Conv2d_1a_3x3"):
            ready(Inception(str(tmp_path / "linear.pth")))

    def test_runs_no_code_from_a_file(self, tmp_path):
        class Payload:
            def __reduce__(self):
                return Path.touch, (tmp_path / "executed",)

        with (tmp_path / "evil.pth").open("wb") as file:
            pickle.dump(Payload(), file, protocol=2)
        with pytest.raises(PretrainedError, match=r"cannot use .*evil\.pth"):
            ready(Inception(str(tmp_path / "evil.pth")))
        assert not (tmp_path / "executed").exists()

    def test_protocols_do_not_share_a_name(self):
        with pytest.raises(ValueError, match="not 'bicubic'"):
            Inception(resize="bicubic")
        assert [Inception().name, Inception(resize="tf1_bilinear").name] == ["inception", "inception_tf1"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image tower with a projection, in the hub's layout."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**shape, patch_size=8, image_size=48, projection_dim=20)
    folder = tmp_path_factory.mktemp("clip") / "clip-vit-small"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


class TestClipVision:
    def test_equals_the_original_preprocessing(self, clip_folder):
        """CMMD's own: Pillow's bicubic to the square, CLIP's normalisation, the network, length 1."""
        images = photographs()
        squares = [
            Image.fromarray(image.permute(1, 2, 0).numpy()).resize((48, 48), Image.Resampling.BICUBIC)
            for image in images
        ]
        pixels = CLIPImageProcessor(do_resize=False, do_center_crop=False)(squares, return_tensors="pt").pixel_values
        with torch.no_grad():
            pooled = CLIPVisionModel.from_pretrained(clip_folder)(pixels).pooler_output
            projected = CLIPVisionModelWithProjection.from_pretrained(clip_folder)(pixels).image_embeds
        for expected, projection in ((pooled, False), (projected, True)):
            features = ready(ClipVision(str(clip_folder), projection=projection))(images / 255)
            # Pillow rounds to 8 bits between rows and columns too, so a few pixels differ by 1.
            assert torch.allclose(features, expected / expected.norm(dim=1, keepdim=True), atol=2e-3)
            assert torch.allclose(features.norm(dim=1), torch.ones(3))
        raw = ready(ClipVision(str(clip_folder), normalize=False))(images / 255)
        assert torch.allclose(raw, pooled, atol=0.02) and raw.norm(dim=1).min() > 1.1

    def test_names(self, tmp_path, clip_folder):
        assert ClipVision().name == "clip_vit_l14_336"
        assert ClipVision("openai/clip-vit-large-patch14-336").name == "clip_vit_l14_336"
        assert ClipVision(projection=True, normalize=False).name == "clip_vit_l14_336_projection_unnormalized"
        assert ClipVision(str(clip_folder)).name == "clip_vit_small"
        assert ClipVision("openai/clip-vit-base-patch32").name == "clip_vit_base_patch32"

    def test_another_network_under_the_name_of_the_default(self, clip_folder, tmp_path):
        impostor = tmp_path / "clip-vit-large-patch14-336"
        impostor.symlink_to(clip_folder)
        extractor = ClipVision(str(impostor))
        assert extractor.name == ClipVision().name
        with pytest.raises(PretrainedError, match=r"it is not openai/clip-vit-large-patch14-336.*'hidden_size': 32"):
            ready(extractor)

    def test_folders_that_are_missing_or_incomplete(self, clip_folder, tmp_path):
        with pytest.raises(PretrainedError, match=r"nowhere .*init_args\.pretrained.* config\.json and model"):
            ready(ClipVision(str(tmp_path / "nowhere")))
        with pytest.raises(PretrainedError, match=r"lacks config\.json\. It should hold config\.json and model"):
            ready(ClipVision(str(tmp_path)))
        CLIPVisionModel.from_pretrained(clip_folder).save_pretrained(tmp_path / "tower")
        with pytest.raises(PretrainedError, match=r"weights lack visual_projection\.weight"):
            ready(ClipVision(str(tmp_path / "tower"), projection=True))
        with pytest.raises(ValueError, match="RandomFeatures"):
            ClipVision(False)

    def test_missing_download_names_folder_and_setting(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # otherwise it tries for half a minute
        with pytest.raises(PretrainedError) as caught:
            ready(ClipVision())
        setting = "callbacks.extractors.ClipVision.init_args.pretrained"
        for part in ("openai/clip-vit-large-patch14-336", "config.json and model.safetensors", setting):
            assert part in str(caught.value)


class TestEveryExtractor:
    def test_equality_is_of_protocol_and_weights(self, tmp_path):
        assert RandomFeatures(8) == RandomFeatures(8) and hash(RandomFeatures(8)) == hash(RandomFeatures(8))
        different = [
            RandomFeatures(8),
            RandomFeatures(8, seed=1),
            Inception(),
            Inception("a/weights.pth"),
            Inception("b/weights.pth"),
            Inception(resize="tf1_bilinear"),
            ClipVision(),
            ClipVision(projection=True),
        ]
        assert len(set(different)) == len(different)
        assert Inception("a/weights.pth").protocol() == Inception("b/weights.pth").protocol()  # without directories

    def test_grey_images_are_repeated(self):
        extractor, grey = ready(RandomFeatures(8)), torch.rand(2, 1, 20, 30)
        assert torch.equal(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))

    def test_nan_in_an_image_does_not_pass_for_a_picture(self):
        extractor, images = ready(RandomFeatures(8)), torch.rand(3, 3, 20, 20)
        expected = extractor(images)
        images[1, 0, 3, 3] = torch.nan
        features = extractor(images)
        assert features[1].isnan().all() and torch.equal(features[[0, 2]], expected[[0, 2]])

    def test_refuses_other_ranges_and_shapes(self):
        extractor = ready(RandomFeatures(8))
        with pytest.raises(ValueError, match=r"reach from 0 to 255"):
            extractor(torch.tensor([0.0, 255.0]).expand(1, 3, 4, 2))
        with pytest.raises(ValueError, match=r"not \(1, 4, 4, 4\)"):
            extractor(torch.zeros(1, 4, 4, 4))

    def test_random_features_repeat_and_leave_the_random_state(self):
        before = torch.get_rng_state()
        images = torch.from_numpy(np.random.default_rng(0).random((2, 3, 20, 20), dtype=np.float32))
        first, second = ready(RandomFeatures(8)), ready(RandomFeatures(8))
        assert torch.equal(first(images), second(images))
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(first(images), ready(RandomFeatures(8, seed=1))(images))

    def test_autocast_does_not_reach_features(self):
        extractor, images = ready(RandomFeatures(8)), torch.rand(2, 3, 20, 20)
        expected = extractor(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(extractor(images), expected)
