"""Captions from files and from models of the transformers package."""

import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from callbacks.captioners import CaptionError, CaptionFile, HuggingFaceCaptioner
from lightning_modules.errors import PretrainedError
from tests import captioner_models
from tests.captioner_models import files


class TestCaptionFile:
    def test_missing_name(self, tmp_path):
        captioner = files(tmp_path, {"a.png": ("a dog", "a cat")})
        captioner.prepare(torch.device("cpu"))
        assert captioner(torch.zeros(1, 3, 8, 8), ["a.png"], "reconstruction") == ["a cat"]
        with pytest.raises(CaptionError, match=r"reconstruction\.json has no caption of reconstruction b\.png"):
            captioner(torch.zeros(1, 3, 8, 8), ["b.png"], "reconstruction")

    def test_several_captions_and_none(self, tmp_path):
        (tmp_path / "two.json").write_text('{"a.png": ["a dog", "a cat"], "b.png": ""}')
        captioner = CaptionFile(*[str(tmp_path / "two.json")] * 2)
        captioner.prepare(torch.device("cpu"))
        with pytest.raises(CaptionError, match=r"2 captions of a\.png"):
            captioner(torch.zeros(1, 3, 8, 8), ["a.png"], "original")
        assert captioner(torch.zeros(1, 3, 8, 8), ["b.png"], "original") == [""]

    @pytest.mark.parametrize("content", [None, "[1]", "{"])
    def test_bad_files(self, tmp_path, content):
        path = tmp_path / "captions.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(CaptionError, match=r"captions\.json.*init_args\.originals"):
            CaptionFile(str(path), str(path)).prepare(torch.device("cpu"))


def pictures() -> torch.Tensor:
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    images[1] *= 0.3
    images[2] = 0
    return (255 * images).round() / 255


class TestHuggingFaceCaptioner:
    @pytest.mark.parametrize("model", ["blip", "git", "vit_gpt2"])
    def test_captions_without_prompt(self, tmp_path, model):
        folder = getattr(captioner_models, model)(tmp_path / model)
        captions = caption(HuggingFaceCaptioner(folder, max_new_tokens=6))
        words = set(captioner_models.WORDS)
        assert all(len(text.split()) <= 6 and set(text.split()) <= words for text in captions)
        assert len(set(captions)) > 1  # they depend on the image
        assert captions == caption(HuggingFaceCaptioner(folder, max_new_tokens=6))
        protocol = HuggingFaceCaptioner(folder, num_beams=2).protocol()
        assert protocol["captioner"] == model and str(tmp_path) not in str(protocol)

    @pytest.mark.parametrize("model", ["blip", "git", "llava"])
    def test_the_prompt_steers_and_is_not_returned(self, tmp_path, model):
        folder = getattr(captioner_models, model)(tmp_path / model)
        captions = caption(HuggingFaceCaptioner(folder, prompt="A photo of", max_new_tokens=6, num_beams=1))
        assert not any(text.startswith("a photo of") for text in captions)
        assert any(captions) and all(len(text.split()) <= 6 for text in captions)
        assert captions != caption(HuggingFaceCaptioner(folder, prompt="the sky", max_new_tokens=6, num_beams=1))

    def test_blip_equals_generate(self, tmp_path):
        """The documented way of captioning, spelled out."""
        folder = captioner_models.blip(tmp_path / "blip")
        model, processor = BlipForConditionalGeneration.from_pretrained(folder), BlipProcessor.from_pretrained(folder)
        photographs = [Image.fromarray((255 * x).byte().permute(1, 2, 0).numpy()) for x in pictures().double()]
        expected = []
        for photograph in photographs:
            inputs = processor(photograph, return_tensors="pt")
            ids = model.generate(**inputs, max_new_tokens=6, num_beams=3, do_sample=False)
            expected.append(processor.decode(ids[0], skip_special_tokens=True))
        assert caption(HuggingFaceCaptioner(folder, max_new_tokens=6)) == expected

    def test_prompts_that_do_not_fit(self, tmp_path):
        with pytest.raises(CaptionError, match="must be asked"):
            caption(HuggingFaceCaptioner(captioner_models.llava(tmp_path / "llava")))
        with pytest.raises(CaptionError, match="images only"):
            caption(HuggingFaceCaptioner(captioner_models.vit_gpt2(tmp_path / "vit_gpt2"), prompt="a photo"))

    def test_missing_and_wrong_folders(self, tmp_path):
        with pytest.raises(PretrainedError, match=r"config\.json.*"):
            caption(HuggingFaceCaptioner(str(tmp_path / "nothing")))
        (tmp_path / "config.json").write_text('{"model_type": "clip"}')
        with pytest.raises(PretrainedError, match="captioner: cannot use"):
            caption(HuggingFaceCaptioner(str(tmp_path)))


def caption(captioner: HuggingFaceCaptioner) -> list[str]:
    captioner.prepare(torch.device("cpu"))
    return captioner(pictures(), ["a", "b", "c"], "original")
