"""The loader's benchmark measures what it says: real batches, and pixels that are compared before they are timed."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from benchmarks.loader import OURS, THEIRS, check_pixels, compare, our_loader, photographs
from tests.data_helpers import data, needs_data


@needs_data
def test_all_contestants_run_on_the_same_photographs(capsys: pytest.CaptureFixture[str]) -> None:
    samples = photographs(Path(data("coco_mini")), 20)
    assert len(samples) == 20 and all(len(sample.captions) == 5 for sample in samples)
    table = compare(samples, CLIPTokenizer.from_pretrained(data("clip_vocab")), rounds=1)
    assert "20 crops equal" in capsys.readouterr().out
    names, speed = (list(table.columns[number].cells) for number in (0, 3))
    assert names[:2] == [THEIRS, OURS] and len(names) == 3
    assert speed[0] == "1.00x" and all(float(ratio[:-1]) > 0 for ratio in speed)


@needs_data
def test_other_pixels_are_noticed() -> None:
    samples = photographs(Path(data("coco_mini")), 4)
    assert check_pixels(our_loader(samples, 256, "exact")) == 4
    with pytest.raises(AssertionError, match="jpg"):
        check_pixels(our_loader(samples, 256, "fast"))


@needs_data
def test_batches_from_workers_are_the_same() -> None:
    samples = photographs(Path(data("coco_mini")), 8)
    alone, workers = (list(our_loader(samples, 128, "exact", num_workers)) for num_workers in (0, 2))
    for one, other in zip(alone, workers, strict=True):
        assert torch.equal(one["image"], other["image"]) and one["caption"] == other["caption"]
        assert other["image"].is_shared() and other["image"].dtype == torch.float32
