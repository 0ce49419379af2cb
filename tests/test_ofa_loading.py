"""OFA's files: every name is accounted for, and what is wrong is said once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from callbacks.captioners import CaptionError, OfaCaptioner
from callbacks.captioners.ofa import is_ofa
from callbacks.captioners.ofa.loading import load_ofa
from callbacks.captioners.ofa.words import Words
from lightning_modules.errors import PretrainedError
from tests import captioner_models, ofa_helpers

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(ofa_helpers.save(tmp_path_factory.mktemp("ofa") / "tiny"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def change(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    weights = torch.load(folder / "pytorch_model.bin")
    edit(weights)
    torch.save(weights, folder / "pytorch_model.bin")


def captioner(folder: Path | str, **settings: object) -> OfaCaptioner:
    return OfaCaptioner(str(folder), **{"image_size": 64, "max_new_tokens": 6, **settings})  # type: ignore[arg-type]


def pictures() -> torch.Tensor:
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    images[1, 0] *= 0.2
    images[2] = images[2].mean(dim=(1, 2), keepdim=True)
    return (255 * images).round() / 255


def captions(folder: Path, **settings: object) -> list[str]:
    ofa = captioner(folder, **settings)
    ofa.prepare(CPU)
    return ofa(pictures(), ["a", "b", "c"], "original")


def refusal(folder: Path | str, **settings: object) -> str:
    with pytest.raises((PretrainedError, CaptionError)) as raised:
        captioner(folder, **settings).prepare(CPU)
    return str(raised.value)


def test_weights_are_those_of_the_file(folder: Path) -> None:
    model, words = load_ofa(str(folder), "setting")
    expected = ofa_helpers.random_model(words.size).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found if "embed_tokens" not in name)
    assert model.decoder.embed_tokens.weight is model.encoder.embed_tokens.weight
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


def test_captions_depend_on_image_and_prompt_and_can_be_repeated(folder: Path) -> None:
    said = captions(folder)
    assert len(set(said)) > 1 and all(text == " ".join(text.split()) for text in said)
    assert not any(special in text for text in said for special in ("<s>", "</s>", "<pad>"))
    assert said == captions(folder)
    assert said != captions(folder, prompt=" a red hat")
    assert said != captions(folder, image_size=48)
    ofa = captioner(folder)
    ofa.prepare(CPU)
    assert [ofa(image[None], ["a"], "original")[0] for image in pictures()] == said
    protocol = ofa.protocol()
    assert protocol["captioner"] == "tiny" and protocol["image_size"] == 64
    assert str(folder.parent) not in str(protocol)


def test_other_formats_of_the_same_weights(folder: Path) -> None:
    """Safetensors hold what is shared once; half precision is read as float32; counters may be missing."""
    said = captions(folder)
    weights = torch.load(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").unlink()
    dropped = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    kept = {name: value for name, value in weights.items() if name not in dropped and "num_batches" not in name}
    save_file(kept, folder / "model.safetensors")
    assert captions(folder) == said
    save_file({n: v.half() if v.is_floating_point() else v for n, v in kept.items()}, folder / "model.safetensors")
    assert load_ofa(str(folder), "setting")[0].encoder.embed_tokens.weight.dtype == torch.float32


def test_names_and_shapes_that_differ_come_in_one_error(folder: Path) -> None:
    def spoil(weights: dict[str, Tensor]) -> None:
        del weights["decoder.layers.1.cross_attn.c_attn"], weights["encoder.pos_ln.bias"]
        weights["encoder.layers.0.attn_ln.weight"] = torch.zeros(32)
        weights["encoder.image_proj.weight"] = torch.zeros(32, 2048)

    change(folder, spoil)
    message = refusal(folder)
    assert "pytorch_model.bin of" in message and "OfaCaptioner.init_args.pretrained" in message
    assert "lacks encoder.pos_ln.bias, decoder.layers.1.cross_attn.c_attn" in message
    assert "has beyond the model's encoder.layers.0.attn_ln.weight" in message
    assert "encoder.image_proj.weight is (32, 2048) and should be (32, 1024)" in message


@pytest.mark.parametrize(
    "edit",
    [
        lambda weights: weights.pop("encoder.layers.0.self_attn.c_attn"),
        lambda weights: weights.update({"encoder.version": torch.zeros(1), "encoder.surplus": torch.zeros(1)}),
        lambda weights: weights.update({"encoder.type_embedding.weight": torch.zeros(3, 32)}),
        lambda weights: weights.update({"decoder.output_projection.weight": torch.zeros(1)}),
        lambda weights: [
            weights.pop(name) for name in list(weights) if name.endswith(("tokens.weight", "projection.weight"))
        ],
    ],
)
def test_each_of_them_is_an_error(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    change(folder, edit)
    assert "captioner: cannot use pytorch_model.bin" in refusal(folder)


def test_an_output_projection_of_its_own_is_an_error(folder: Path) -> None:
    def untie(weights: dict[str, Tensor]) -> None:
        weights["decoder.output_projection.weight"] = weights["decoder.output_projection.weight"] + 1

    change(folder, untie)
    assert "differ, and should be the same" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04broken"])
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_damaged_weights(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    assert f"cannot use {file} of" in refusal(folder)


def test_something_else_than_weights(folder: Path) -> None:
    torch.save([1, 2], folder / "pytorch_model.bin")
    assert "no map from names to weights" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "vocab.json", "merges.txt", "pytorch_model.bin"])
def test_missing_files(folder: Path, file: str) -> None:
    (folder / file).unlink()
    message = refusal(folder)
    assert "lacks" in message and file in message


@pytest.mark.parametrize("file", ["config.json", "vocab.json", "merges.txt"])
def test_damaged_text_files(folder: Path, file: str) -> None:
    (folder / file).write_text("{not json")
    assert "captioner: cannot use" in refusal(folder)


def test_files_of_other_models(folder: Path, tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 59457}))
    assert "tokens, where its config.json has 59457" in refusal(folder)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bart"}))
    assert "model_type 'bart'" in refusal(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "a": 4}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert "special tokens" in refusal(folder)


def test_what_is_ofa(folder: Path, tmp_path: Path) -> None:
    assert is_ofa(str(folder), "--model")
    assert not is_ofa(captioner_models.blip(tmp_path / "blip"), "--model")
    with pytest.raises(PretrainedError, match=r"given by --model\) does not exist"):
        is_ofa(str(tmp_path / "nothing"), "--model")


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = refusal("OFA-Sys/ofa-nothing")
    assert "OFA-Sys/ofa-nothing is not in the hub cache" in message
    assert "into a folder named ofa-nothing and set callbacks.captioners.OfaCaptioner" in message
    assert "vocab.json, merges.txt" in message


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"image_size": None}, "width 32.*set image_size"),
        ({"image_size": 2000}, "image_size is 2000: set it to 16 to 128"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"max_new_tokens": 64}, "max_new_tokens is 64"),
        ({"prompt": "red " * 70}, "prompts of at most 64"),
    ],
)
def test_settings_out_of_range(original: Path, settings: dict[str, object], problem: str) -> None:
    with pytest.raises(CaptionError, match=problem):
        captioner(original, **settings).prepare(CPU)


class TestWords:
    def test_as_the_tokenizers_package_splits(self, original: Path) -> None:
        from tokenizers import ByteLevelBPETokenizer

        words = Words(original / "vocab.json", original / "merges.txt")
        plain = ByteLevelBPETokenizer(str(original / "vocab.json"), str(original / "merges.txt"))
        for text in [" what does the image describe?", "a red  hat, naïve 猫", "", " 12:30"]:
            assert words.encode(text) == [0, *plain.encode(text).ids, 2]
            assert words.decode(words.encode(text)) == " ".join(text.split())

    def test_codes_and_coordinates_follow_the_words(self, original: Path) -> None:
        words = Words(original / "vocab.json", original / "merges.txt")
        vocabulary = len(json.loads((original / "vocab.json").read_text()))
        assert words.size == vocabulary + 9192
        assert words.encode("<code_0>")[1:-1] == [vocabulary]
        assert words.encode("<code_8191><bin_0>")[1:-1] == [vocabulary + 8191, vocabulary + 8192]
        assert words.decode([vocabulary + 9191]) == "<bin_999>"
