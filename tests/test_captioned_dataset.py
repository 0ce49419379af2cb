"""From files to batches: reading, crops, captions, the dataset and collation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.captions import clean_caption, read_captions
from datamodules.errors import DataError, UnreadableImageError
from datamodules.samples import MAX_REPLACEMENTS, CaptionedDataset, Sample, collate, load_rgb
from datamodules.transforms import CentreCrop, RandomCrop, full_size, to_tensor
from tests.data_helpers import truncate, write_images

# --- reading ---------------------------------------------------------------------------------------------


def test_load_rgb_expands_greyscale_and_palettes(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.save(tmp_path / "grey.png")
    red = Image.new("RGB", (8, 8), (200, 10, 20))
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert np.array_equal(np.array(load_rgb(tmp_path / "grey.png")), np.stack([np.array(grey)] * 3, -1))
    assert load_rgb(tmp_path / "palette.png").getpixel((3, 3)) == (200, 10, 20)


def test_load_rgb_composites_transparency_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (100, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (100, 0, 0, 255)).save(tmp_path / "solid.png")
    Image.new("LA", (4, 4), (0, 127)).save(tmp_path / "half.png")
    assert load_rgb(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert load_rgb(tmp_path / "solid.png").getpixel((0, 0)) == (100, 0, 0)
    assert load_rgb(tmp_path / "half.png").getpixel((0, 0)) == (128, 128, 128)


def test_load_rgb_applies_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    image.save(tmp_path / "turned.png", exif=exif)
    turned = load_rgb(tmp_path / "turned.png")
    assert turned.size == (4, 8)
    assert turned.getpixel((3, 0)) == (255, 255, 255)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    truncate(tmp_path / "image0.png")
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "deep.png")
    for name in ("image0.png", "text.png", "deep.png", "absent.png"):
        with pytest.raises(UnreadableImageError, match=rf"{name}.*--data.on_unreadable skip"):
            load_rgb(tmp_path / name)


def test_to_tensor_is_exact() -> None:
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3) * 11
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (3, 2, 4)
    assert tensor.dtype == torch.float32
    assert torch.equal((tensor * 255).round().to(torch.uint8), torch.from_numpy(pixels).permute(2, 0, 1))


# --- crops -----------------------------------------------------------------------------------------------


def test_random_crop_depends_on_the_key_alone_and_reaches_every_position(tmp_path: Path) -> None:
    image = load_rgb(tmp_path / write_images(tmp_path, 1, size=(10, 9))[0])
    crop = RandomCrop(8)
    state = torch.get_rng_state()
    corners = {crop(image, key).getpixel((0, 0))[1:] for key in range(100)}
    assert corners == {(x, y) for x in range(3) for y in range(2)}
    assert crop(image, 2**62 + 5).tobytes() == crop(image, 2**62 + 5).tobytes()
    assert torch.equal(state, torch.get_rng_state())


def test_centre_crop_and_too_small_image(tmp_path: Path) -> None:
    image = load_rgb(tmp_path / write_images(tmp_path, 1, size=(12, 9))[0])
    assert CentreCrop(8)(image, 0).getpixel((0, 0))[1:] == (2, 0)
    for crop in (CentreCrop(10), RandomCrop(10)):
        with pytest.raises(DataError, match=r"12x9, smaller than the 10x10.*--data.crop_size"):
            crop(image, 0)


# --- captions --------------------------------------------------------------------------------------------


def test_clean_caption_keeps_the_readable_part() -> None:
    assert clean_caption("New K\ufffd F\ufffd") == "New K F"
    assert clean_caption("\ufeff a\x00cat\n on\ta\u2028mat \ud800") == "a cat on a mat"
    assert clean_caption("café au lait, 「紅茶」 👩‍🚀") == "café au lait, 「紅茶」 👩‍🚀"


def test_caption_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x.png": "one", "y.png": ["two", "", "three"]}')
    (tmp_path / "b.csv").write_bytes(b'\xef\xbb\xbfimage,caption\nx.png,"one, or\xff two"\nx.png,three\ny.png,\n')
    assert read_captions(tmp_path / "a.json") == {"x.png": ("one",), "y.png": ("two", "three")}
    assert read_captions(tmp_path / "b.csv") == {"x.png": ("one, or two", "three"), "y.png": ()}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, r"no caption file .*absent.json: set --data.captions_file"),
        ("a.txt", "x", r"a.txt is neither .json nor .csv"),
        ("a.json", "{", r"a.json is not valid JSON .*download it again"),
        ("a.json", "[1]", r"a.json holds a list: expected"),
        ("a.json", '{"x.png": 3}', r"3 for 'x.png': expected"),
        (
            "a.csv",
            "file,text\n",
            r"header of .*a.csv is \['file', 'text'\]: it needs the columns image,caption",
        ),
    ],
)
def test_wrong_caption_files(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_captions(tmp_path / name)


# --- dataset and collation -------------------------------------------------------------------------------


def samples_in(folder: Path, count: int) -> list[Sample]:
    return [Sample(name, folder / name, (f"{name} a", f"{name} b")) for name in write_images(folder, count)]


def test_dataset_elements(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, 3)
    pairs = CaptionedDataset(samples, full_size, captions="all")
    crops = CaptionedDataset(samples, full_size, captions="all", crops_per_image=3)
    assert [pairs[index, 0]["caption"] for index in range(len(pairs))] == [
        f"image{image}.png {caption}" for image in range(3) for caption in "ab"
    ]
    assert [crops[index, 0]["caption"][-1] for index in range(len(crops))] == list("aba" * 3)
    assert [CaptionedDataset(samples, full_size)[index, 0]["caption"][-1] for index in range(3)] == list("aaa")


def test_skip_takes_the_next_readable_image_and_reports_it(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, 4)
    for number in (3, 0):
        truncate(samples[number].path)
    with pytest.raises(UnreadableImageError, match=r"image3.png"):
        CaptionedDataset(samples, full_size)[3, 7]
    dataset = CaptionedDataset(samples, full_size, captions="all", on_unreadable="skip")
    item = dataset[3 * 2 + 1, 7]
    assert (item["name"], item["caption"], item["key"]) == ("image1.png", "image1.png b", 7)
    assert torch.equal(item["image"], dataset[1 * 2, 8]["image"])
    with pytest.warns(UserWarning, match=r"^2 unreadable images were replaced.*image0.png, image3.png"):
        dataset.report_unreadable()


def test_skip_gives_up_after_many_in_a_row(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, MAX_REPLACEMENTS + 3)
    for sample in samples[1 : MAX_REPLACEMENTS + 2]:
        sample.path.write_text("not an image")
    dataset = CaptionedDataset(samples, full_size, on_unreadable="skip")
    assert dataset[2, 0]["name"] == samples[-1].name
    with pytest.raises(DataError, match=rf"^{MAX_REPLACEMENTS + 1} images in a row.*check the disk"):
        dataset[1, 0]


def test_collate_names_the_two_files_that_differ(tmp_path: Path) -> None:
    samples = [*samples_in(tmp_path / "a", 2), Sample("wide.png", tmp_path / "wide.png")]
    Image.new("RGB", (41, 32)).save(tmp_path / "wide.png")
    dataset = CaptionedDataset(samples, full_size)
    with pytest.raises(DataError, match=r"image0.png of 40x32 and wide.png of 41x32.*batch size of 1"):
        collate([dataset[index, 0] for index in range(3)], "x")
    dataset = CaptionedDataset(samples, CentreCrop(32))
    batch = collate([dataset[index, 0] for index in range(3)], "x")
    assert batch["caption"] == ["image0.png a", "image1.png a", ""], "one without a caption takes it from no other"
    assert "caption" not in collate([dataset[2, 0]], "x")
    batch = collate([dataset[index, 2**62] for index in range(2)], "x")
    assert batch["caption"] == ["image0.png a", "image1.png a"]
    assert batch["key"].tolist() == [2**62] * 2
