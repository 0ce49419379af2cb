"""Whether captions of the reconstructions say what captions of the originals say."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.captioners import Captioner
from callbacks.gather import all_gather_rows
from callbacks.metric import MetricCallback, OnMissing
from callbacks.metrics import caption_tokens
from callbacks.metrics.captions import bleu_4, cider_d
from callbacks.metrics.spice import spice, spice_program
from callbacks.metrics.value import NotAvailable, Value
from callbacks.names import BLEU_4, CIDER_D, SPICE
from lightning_modules.files import write_atomically
from lightning_modules.step_output import StepOutput

FIGURES = (BLEU_4, CIDER_D, SPICE)


class CaptionPair(NamedTuple):
    """What a captioner says of one image."""

    dataset: str
    image: str
    original: str
    reconstruction: str


class CaptionSimilarity(MetricCallback):
    """BLEU-4, CIDEr-D and SPICE between captions of the originals and of the reconstructions (TACO, Table 1).

    The caption of an original is the only reference of its reconstruction's. CIDEr-D weighs words by their rarity
    among the originals' captions of the dataset, so its figures depend on the dataset, on which images of it are
    used, and on the captioner. Images whose original gets an empty caption are left out and counted; an empty
    caption of a reconstruction is a wrong one.

    After a test, the captions lie in `{run_dir}/captions/{dataset}/originals.json` and `reconstructions.json`, which
    `CaptionFile` reads: they can be looked at, or scored again elsewhere without running the captioner.

    Args:
        captioner: Where the captions come from.
        spice_jars: Folder with the two files of Stanford CoreNLP 3.6.0 that SPICE needs; `None` for the place where
            pycocoevalcap keeps them. Without them, or without Java, SPICE is recorded as not available.
        on_missing: "record" warns once and records the figures as not available where the captioner's weights are
            missing; "raise" stops at the start of the validation or test.
    """

    name = BLEU_4
    unit = ""
    higher_is_better = True

    def __init__(self, captioner: Captioner, spice_jars: str | None = None, on_missing: OnMissing = "record") -> None:
        super().__init__()
        self.captioner = captioner
        self.spice_jars = spice_jars
        self.on_missing = on_missing
        self.captions: dict[str, dict[str, CaptionPair]] = {}
        """Dataset -> image name -> captions, sorted by name; of the latest validation or test."""
        self._gathering: list[CaptionPair] = []
        self._warned = False

    @property
    def figures(self) -> tuple[str, ...]:
        """All three are missing without a captioner."""
        return FIGURES

    def protocol(self) -> dict[str, Any]:
        """What is compared with what, and how."""
        return {
            "captions": self.captioner.protocol(),
            "references": "the caption of the original, one per image",
            "tokens": caption_tokens.PROTOCOL,
            "implementation": f"pycocoevalcap {version('pycocoevalcap')}",
            BLEU_4: "n-gram counts of all images together",
            CIDER_D: "document frequencies of this dataset's originals; mean over images; at most 10",
            SPICE: "SPICE 1.0 (Java) on the same tokens; mean over images",
        }

    def prepare(self, device: torch.device) -> None:
        """Load the captioner, and warn of a missing SPICE before the work is done."""
        self.captioner.prepare(device)
        program = spice_program(self.spice_jars)
        if isinstance(program, NotAvailable) and not self._warned:
            self._warned = True
            rank_zero_warn(f"{SPICE} will be recorded as not available. {program.reason}")

    def reset(self) -> None:
        """Forget the captions."""
        self.captions, self._gathering = {}, []

    def update(self, output: StepOutput) -> None:
        """Caption both sides of one batch."""
        names = output["name"]
        originals = self.captioner(output["image"], names, "original")
        reconstructions = self.captioner(output["x_hat"], names, "reconstruction")
        for name, original, reconstruction in zip(names, originals, reconstructions, strict=True):
            self._gathering.append(CaptionPair(output["dataset"], name, original, reconstruction))

    def conclude(self) -> None:
        """Bring the captions together and compare them on rank 0, where Java is started once and not on each."""
        pairs = all_gather_rows(self._gathering)
        self._gathering = []
        for pair in sorted(pairs, key=lambda pair: (pair.dataset, pair.image)):
            self.captions.setdefault(pair.dataset, {}).setdefault(pair.image, pair)
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        found = all_gather_rows([self._compare()] if rank == 0 else [])[0]
        for dataset, (figures, details) in found.items():
            for figure, value in figures.items():
                if isinstance(value, NotAvailable):
                    self.report_missing(dataset, figure, value.reason)
                    continue
                self.report(dataset, figure, value, **details)
                if left_out := details["without_reference"]:
                    total = left_out + details["images"]
                    reason = "the caption of the original is empty"
                    self.report_missing(dataset, figure, f"{left_out} of {total} images: {reason}")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather, log, and keep the captions."""
        super().on_test_epoch_end(trainer, pl_module)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for dataset, pairs in self.captions.items():
            folder = Path(trainer.default_root_dir) / "captions" / dataset
            for side in ("original", "reconstruction"):
                captions = {image: getattr(pair, side) for image, pair in pairs.items()}
                text = json.dumps(captions, indent=2, ensure_ascii=False) + "\n"
                write_atomically(folder / f"{side}s.json", lambda draft, text=text: draft.write_text(text, "utf-8"))  # type: ignore[misc]

    def _compare(self) -> dict[str, tuple[dict[str, Value], dict[str, Any]]]:
        """Dataset -> figures, and what to know of them."""
        found = {}
        for dataset, pairs in self.captions.items():
            tokens = {image: caption_tokens.tokenise(pair.original) for image, pair in pairs.items()}
            references = {image: [caption] for image, caption in tokens.items() if caption}
            hypotheses = {image: caption_tokens.tokenise(pairs[image].reconstruction) for image in references}
            details = {
                "images": len(references),
                "without_reference": len(pairs) - len(references),
                "empty_captions": sum(not caption for caption in hypotheses.values()),
            }
            figures: dict[str, Value]
            if references:
                figures = {
                    BLEU_4: bleu_4(references, hypotheses),
                    CIDER_D: cider_d(references, hypotheses),
                    SPICE: spice(references, hypotheses, self.spice_jars),
                }
            else:
                nothing = NotAvailable("all images: the caption of the original is empty")
                figures = dict.fromkeys(FIGURES, nothing)
            found[dataset] = figures, details
        return found
