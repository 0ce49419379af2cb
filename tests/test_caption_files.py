"""Caption files of all kinds, good and bad, and joining them to images."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from datamodules import CaptionedFolderDataModule, CocoCaptionsDataModule
from datamodules.caption_join import advice, join_captions
from datamodules.captions import MAX_CHARACTERS, clean_caption, read_captions, read_coco
from datamodules.errors import DataError
from tests.data_helpers import data, needs_data, write_images

WORDS = [f"word{number}" for number in range(10_000)]


def test_coco_annotations(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}, {"id": 9, "file_name": "c.jpg"}],
        "annotations": [
            {"image_id": 3, "caption": "first of a\n"},
            {"image_id": 7, "caption": "b"},
            {"image_id": 3, "caption": "second of a"},
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    captions = read_captions(tmp_path / "captions.json")
    assert captions == {"b.jpg": ("b",), "a.jpg": ("first of a", "second of a"), "c.jpg": ()}
    for broken in (
        {"images": [{"id": 1}], "annotations": []},
        {"images": [1], "annotations": []},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": None}]},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": 5}]},
    ):
        (tmp_path / "captions.json").write_text(json.dumps(broken))
        for read in (read_captions, read_coco):
            with pytest.raises(DataError, match=r"captions.json is not a COCO captions file .*use captions_\*.json"):
                read(tmp_path / "captions.json")


@needs_data
def test_real_coco_annotations_are_read_alike_in_both_ways() -> None:
    path = Path(data("coco_mini", "annotations", "captions_train2017.json"))
    samples = CocoCaptionsDataModule(data("coco_mini"), 2017).training_samples()
    assert read_captions(path) == {sample.name: sample.captions for sample in samples}
    texts: dict[int, list[str]] = {}
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        texts.setdefault(annotation["image_id"], []).append(" ".join(annotation["caption"].split()))
    plain = {image["file_name"]: tuple(texts[image["id"]]) for image in content["images"]}
    assert read_captions(path) == plain
    folder = CaptionedFolderDataModule(data("coco_mini", "train2017"), str(path))
    assert {sample.name: sample.captions for sample in folder.training_samples()} == plain


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "text": "one"},
        {"file_name": "sub/b.png", "captions": ["two", "three"]},
        {"file_name": "a.png", "caption": "four", "width": 3},
    ]
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n\n".join(map(json.dumps, rows)).encode() + b"\n")
    assert read_captions(path) == {"a.png": ("one", "four"), "sub/b.png": ("two", "three")}
    for line in ("{", "[1]", "3", '{"file_name": "a.png"}', '{"text": "x"}', '{"file_name": "a.png", "text": [1]}'):
        path.write_text(f'{{"file_name": "a.png", "text": "x"}}\n{line}\n')
        with pytest.raises(DataError, match=rf"line 2 of .*metadata.jsonl is .*{re.escape(line[:5])}.*expected"):
            read_captions(path)


def captions_in(path: Path, captions: dict[str, Any]) -> Path:
    """Write captions in the form that the ending tells, with bytes for each character of latin-1."""
    if path.suffix == ".csv":
        text = "image,caption\n" + "".join(f'{name},"{caption}"\n' for name, caption in captions.items())
    elif path.suffix == ".jsonl":
        text = "".join(
            json.dumps({"file_name": n, "text": c}, ensure_ascii=False) + "\n" for n, c in captions.items()
        )
    else:
        text = json.dumps(captions, ensure_ascii=False)
    path.write_bytes(text.encode("latin-1"))
    return path


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv"])
def test_bad_captions_are_mended_and_counted(tmp_path: Path, ending: str) -> None:
    long = " ".join(WORDS)
    given = {"a": "a café, in latin-1", "b": " \t ", "c": long, "d": "x" * 10_000, "e": "good"}
    path = captions_in(tmp_path / f"captions.{ending}", given)
    with pytest.warns(UserWarning) as caught:
        captions = read_captions(path)
    (message,) = [str(warning.message) for warning in caught]
    assert message == (
        f"of 5 captions in {path}, 1 are empty and are left out, 1 have bytes that are not text, which are removed, "
        "2 are longer than 4000 characters and are cut"
    )
    assert captions["a"] == ("a caf, in latin-1",)
    assert captions["b"] == ()
    assert captions["d"] == ("x" * MAX_CHARACTERS,)
    words = captions["c"][0].split(" ")
    assert words == WORDS[: len(words)], "cut between words"
    assert MAX_CHARACTERS - len("word9999 ") < len(captions["c"][0]) <= MAX_CHARACTERS


def test_nothing_is_said_of_good_captions(tmp_path: Path) -> None:
    exact = "x" * MAX_CHARACTERS
    path = captions_in(tmp_path / "captions.json", {"a": ["one", "two"], "b": "   spaces     " * 500, "c": exact})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captions = read_captions(captions_in(path, {"a": ["one", "two"], "b": f"spaces{' ' * 9000}cost", "c": exact}))
    assert captions == {"a": ("one", "two"), "b": ("spaces cost",), "c": (exact,)}


def test_the_cut_is_beyond_what_clip_reads(data_root: Path) -> None:
    vocabulary = json.loads((data_root / "clip_vocab" / "vocab.json").read_text())
    longest = max(len(token.removesuffix("</w>")) for token in vocabulary)
    assert 77 * (longest + 1) < MAX_CHARACTERS
    assert clean_caption(" ".join(WORDS)).startswith(" ".join(WORDS[:77]))


def test_csv_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,caption\na.png," + "x" * 200_000 + "\n")
    with pytest.raises(DataError, match=r"row \d of .*a.csv is not CSV .*field larger"):
        read_captions(tmp_path / "a.csv")


def test_csv_lines_with_too_many_or_too_few_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,caption\na.jpg,one,,\nb.jpg\n")
    with pytest.warns(UserWarning, match="1 are empty"):
        assert read_captions(path) == {"a.jpg": ("one",), "b.jpg": ()}
    path.write_text("image,caption\na.jpg,one\na.jpg,a dog, running, on grass\n")
    with pytest.raises(DataError, match=r"line 3 of .*a.csv goes on with ' running, on grass' .*in quotes"):
        read_captions(path)
    path.write_text("caption,image\none,a.jpg\na dog\n")
    with pytest.raises(DataError, match=r"line 3 of .*a.csv ends before the column image: write"):
        read_captions(path)


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5_000], ids=["deep", "long number"])
def test_json_beyond_what_python_parses(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"a.jpg": {value}')
    with pytest.raises(DataError, match=r"a.json is not valid JSON .*: repair it"):
        read_captions(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text(f'{{"file_name": "a.jpg", "caption": {value}')
    with pytest.raises(DataError, match=r"line 1 of .*a.jsonl is .*expected"):
        read_captions(tmp_path / "a.jsonl")


# --- joining ---------------------------------------------------------------------------------------------

IMAGES = ["kodim01.png", "kodim02.png", "v1.2.png"]


def test_join_by_name() -> None:
    joined = join_captions(IMAGES, {"kodim02.png": ("two",), "kodim01.png": (), "other.png": ("o",)}, "name", "file")
    assert joined == ({"kodim02.png": ("two",)}, ["kodim01.png", "v1.2.png"], ["other.png"])
    assert advice(joined.missing, joined.surplus) == ""


@pytest.mark.parametrize("form", ["{}", "{}.jpg", "{}.PNG", "images/{}.png", "C:\\images\\{}.png", "a/b.c/{}"])
def test_join_by_stem(form: str) -> None:
    captions = {form.format(name): (name,) for name in ("kodim01", "kodim02", "v1.2", "other")}
    by_name = join_captions(IMAGES, captions, "name", "file")
    assert by_name.missing == IMAGES
    assert advice(by_name.missing, by_name.surplus).startswith(
        " 3 of them differ in folder or ending only (kodim01.png"
    )
    by_stem = join_captions(IMAGES, captions, "stem", "file")
    assert by_stem.captions == {name: (name.removesuffix(".png"),) for name in IMAGES}
    assert (by_stem.missing, by_stem.surplus) == ([], [form.format("other")])


def test_a_stem_that_two_share_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 images have the same name .*\(a.png and a.jpg\): rename"):
        join_captions(["a.png", "a.jpg"], {"a": ("x",)}, "stem", "file")
    with pytest.raises(DataError, match=r"1 entries of file have the same name .*\(val/a.png and train/a.png\)"):
        join_captions(["a.png"], {"val/a.png": ("x",), "train/a.png": ("y",)}, "stem", "file")


def test_the_folder_reports_and_takes_the_advice(tmp_path: Path) -> None:
    names = write_images(tmp_path / "images", 4)
    captions = {f"photos/{name.removesuffix('.png')}.jpg": f"of {name}" for name in names[1:]}
    path = captions_in(tmp_path / "captions.json", {**captions, "spare.png": "x"})
    settings: dict[str, Any] = {"root": str(tmp_path / "images"), "captions_file": str(path)}
    missing = r"4 of 4 images in .* have no caption in .*captions.json: image0.png, image1.png, image2.png and 1 more"
    with pytest.raises(DataError, match=rf"{missing}. 3 of them differ .*--data.join stem"):
        CaptionedFolderDataModule(**settings).test_samples()
    with pytest.raises(DataError, match=r"1 of 4 images .* have no caption .*: image0.png. Add"):
        CaptionedFolderDataModule(**settings, join="stem").test_samples()
    with pytest.warns(UserWarning) as caught:
        module = CaptionedFolderDataModule(**settings, join="stem", on_unreadable="skip")
        assert {s.name: s.captions for s in module.test_samples()} == {name: (f"of {name}",) for name in names[1:]}
    assert [str(warning.message) for warning in caught] == [
        f"1 of 4 images in {tmp_path / 'images'} have no caption in {path}: image0.png. They are left out.",
        f"1 captions in {path} have no image: spare.png",
    ]
    with pytest.raises(DataError, match="4 of 4 images"):
        CaptionedFolderDataModule(**settings, on_unreadable="skip").test_samples()
