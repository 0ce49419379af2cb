"""Captioners of the tests: two files, and tiny models with random weights, saved as the hub would have them."""

import json
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from callbacks.captioners import CaptionFile

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SENTENCE = "a dog cat on the red green blue sofa photo of man woman with hat in tree sky runs"
WORDS = _SENTENCE.split()
NET = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**NET, "image_size": 32, "patch_size": 16}
SQUARE = {"height": 32, "width": 32}
IDS = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def files(folder: Path, said: dict[str, tuple[str, str]]) -> CaptionFile:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "original.json", folder / "reconstruction.json"]
    for side, path in enumerate(paths):
        path.write_text(json.dumps({name: captions[side] for name, captions in said.items()}))
    return CaptionFile(*map(str, paths))


def tokenizer(*more: str, **options) -> BertTokenizer:
    return BertTokenizer({word: i for i, word in enumerate([*SPECIAL, *WORDS, *more])}, **options)


def save(folder: Path, model: PreTrainedModel, *processors) -> str:
    """Weights are wide, so that captions depend on the image."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    for part in (model, *processors):
        part.save_pretrained(folder)
    return str(folder)


def blip(folder: Path) -> str:
    words = tokenizer("[DEC]", bos_token="[DEC]")
    text = {
        **NET,
        "vocab_size": len(words),
        "encoder_hidden_size": 32,
        "max_position_embeddings": 64,
        "eos_token_id": 3,
    }
    text |= {"bos_token_id": words.bos_token_id, "pad_token_id": 0, "sep_token_id": 3}
    config = BlipConfig(text_config=text, vision_config=VISION, projection_dim=32, image_text_hidden_size=32)
    return save(folder, BlipForConditionalGeneration(config), BlipProcessor(BlipImageProcessor(size=SQUARE), words))


def git(folder: Path) -> str:
    words = tokenizer()
    config = GitConfig(vision_config=VISION, vocab_size=len(words), max_position_embeddings=64, **NET, **IDS)
    return save(folder, GitForCausalLM(config), GitProcessor(_clip_images(), words))


def vit_gpt2(folder: Path) -> str:
    words = tokenizer()
    shape = {"n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    decoder = GPT2Config(vocab_size=len(words), add_cross_attention=True, is_decoder=True, **shape, **IDS)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), decoder)
    model = VisionEncoderDecoderModel(config)
    model.generation_config.update(decoder_start_token_id=2, pad_token_id=0, eos_token_id=3)
    return save(folder, model, ViTImageProcessor(size=SQUARE), words)


def llava(folder: Path) -> str:
    words = tokenizer("<image>", additional_special_tokens=["<image>"])
    text = LlamaConfig(vocab_size=len(words), num_key_value_heads=2, **NET, **IDS)
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION), text_config=text, image_token_index=image, vision_feature_layer=-1
    )
    processor = LlavaProcessor(
        _clip_images(),
        words,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    return save(folder, LlavaForConditionalGeneration(config), processor)


def _clip_images() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE)
