"""Validation and tests of a codec whose bits several decoders read: a series of pictures for each decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_modules.codec_module import CodecModule, step_output
from lightning_modules.codecs.complexity import macs_by_part
from lightning_modules.codecs.conditional_codec import ConditionalCodec, PerceptualDecoder, check_realism, interpolate
from lightning_modules.codecs.digits import DigitCodec, StoredDigits
from lightning_modules.codecs.fingerprint import digest
from lightning_modules.coded_files import SetFiles, clock, code_pictures
from lightning_modules.losses.rate_distortion import bits
from lightning_modules.step_output import Decoder, StepOutput


class DecoderSeriesModule(CodecModule):
    """Measures a conditional codec by every decoder that it has.

    A test reads real files. Digits are coded as one file for the whole data set (with several processes: one each),
    whose equal share is each image's `bits`; pictures have a file each.

    Args:
        codec: Encoder, g1 and the entropy model.
        realism: Places between g1 (0) and g2 (1) to decode at; all from the same bits and the same noise.
        decode_as: Labels to decode digits with in place of the sent one, by the last decoder of `realism`: a series
            for each, of the images that have another label.

    Raises:
        ValueError: An argument is out of range.
    """

    codec: ConditionalCodec

    def __init__(self, codec: ConditionalCodec, realism: Sequence[float], decode_as: Sequence[int]) -> None:
        super().__init__()
        for place in realism:
            check_realism(place)
        if not realism:
            raise ValueError("realism is empty: name at least one place between 0 (g1) and 1 (g2)")
        label = codec.label if isinstance(codec, DigitCodec) else None
        if decode_as and label is None:
            raise ValueError("decode_as needs a digits codec with side information: set codec.conditional to true")
        if label is not None:
            label.checked(torch.tensor(list(decode_as), dtype=torch.int64))
        self.codec = codec
        self.realism = list(realism)
        self.decode_as = list(decode_as)
        self._set_files: SetFiles | None = None

    def trained_g2(self) -> PerceptualDecoder | None:
        """The perceptual decoder to measure, once there is one worth measuring."""
        return None

    def setting(self) -> dict[str, Any]:
        """What makes this codec a point of its own in a comparison; the first item places it on a curve."""
        return {
            **(self.codec.rate_setting() or {"lambda": self.trade_off()}),
            "side_information": self.codec.side_information_kind,
        }

    def training_details(self) -> dict[str, Any]:
        """What else a reader of the record must know of the training."""
        return {name: getattr(self.codec, name) for name in self.codec.recorded_sizes}

    # -- pictures ---------------------------------------------------------------------------------------------------

    def _names(self) -> dict[str, float]:
        """Decoder -> realism."""
        if self.codec.noise_dim:
            return {"joint": 1.0}
        if self.trained_g2() is None:
            return {"g1": 0.0}
        return {"g1" if a == 0 else "g2" if a == 1 else f"realism_{a:g}": a for a in self.realism}

    def _series(
        self, batch: Any, code: Tensor, keys: Tensor, rate: Tensor, parts: dict[str, Tensor]
    ) -> list[StepOutput]:
        """The outputs of all decoders of a batch whose code is known."""
        pictures = self.codec.pictures(code, keys, self.trained_g2())
        return [
            self._output(batch, Decoder(batch["dataset"], name, a), interpolate(*pictures, a), rate, parts)
            for name, a in self._names().items()
        ]

    def _output(
        self, batch: Any, decoder: Decoder, x_hat: Tensor, rate: Tensor, parts: dict[str, Tensor]
    ) -> StepOutput:
        height, width = batch["image"].shape[-2:]
        series = f"{decoder.dataset}-{decoder.name}"
        return {**step_output(batch, series, x_hat[..., :height, :width], rate, parts), "series": decoder}

    def validation_step(self, batch: Any, batch_idx: int) -> list[StepOutput]:  # type: ignore[override]
        """Likelihood rate, and the pictures of all decoders."""
        y = self.codec.side_information(batch)
        with torch.autocast(batch["image"].device.type, enabled=False):
            out = self.codec(batch["image"], y, batch["key"])
        parts = {name: bits(values.double()) for name, values in out["likelihoods"].items()}
        return self._series(batch, out["code"], batch["key"], torch.stack(list(parts.values())).sum(0), parts)

    # -- testing through files --------------------------------------------------------------------------------------

    def on_test_epoch_start(self) -> None:
        """Code a set of digits, write it, read it back."""
        self._open_set(self.trainer.test_dataloaders, self.trainer.num_test_batches)

    def on_predict_epoch_start(self) -> None:
        """As in a test."""
        self._open_set(self.trainer.predict_dataloaders, self.trainer.num_predict_batches)

    def _folder(self) -> Path:
        return Path(self.trainer.default_root_dir) / "bitstreams"

    def _open_set(self, loaders: Any, limits: Sequence[int | float]) -> None:
        if isinstance(self.codec, DigitCodec):
            rank = self.global_rank if self.trainer.world_size > 1 else None
            self._set_files = SetFiles(self.codec, self._folder(), rank)
            self._set_files.write(loaders, limits, self.device)

    def test_step(self, batch: Any, batch_idx: int) -> list[StepOutput]:  # type: ignore[override]
        """The pictures that files hold."""
        return self._from_files(batch) if self._set_files is None else self._from_set(batch, self._set_files)

    def predict_step(self, batch: Any, batch_idx: int) -> list[StepOutput]:
        """The same as a test; callbacks then only write pictures."""
        return self.test_step(batch, batch_idx)

    def _from_files(self, batch: Any) -> list[StepOutput]:
        """A file for each picture."""
        y = self.codec.side_information(batch)
        coded = code_pictures(
            self.codec, batch, self._folder(), lambda i: None if y is None else y[i : i + 1], self.codec.read
        )
        start = clock(self.device)
        code = torch.cat([self.codec.code_of(stored) for stored in coded.opened])
        keys = torch.cat([stored.keys for stored in coded.opened])
        outputs = self._series(batch, code, keys, coded.bits, coded.parts)
        seconds = (clock(self.device) - start) / len(keys)
        for output, realism in zip(outputs, self._names().values(), strict=True):
            # g1's picture is what a file is read into; g2 comes on top.
            more = seconds if realism else 0.0
            coded_ = coded._replace(decode_seconds=[each + more for each in coded.decode_seconds])
            output.update(coded_.describe(output))
        return outputs

    def _from_set(self, batch: Any, files: SetFiles) -> list[StepOutput]:
        """A share of the file of the data set."""
        assert isinstance(self.codec, DigitCodec)
        count = len(batch["image"])
        stream, stored = files.next(batch["dataset"], count)
        likelihoods = self.codec.likelihoods(stored.code, stored.label)
        parts = {name: bits(values) for name, values in likelihoods.items()}
        share = torch.full((count,), stream.bits_per_image, dtype=torch.float64, device=self.device)
        outputs = self._series(batch, self.codec.code_of(stored), stored.keys, share, parts)
        for wanted in self.decode_as:
            outputs += self._decoded_as(self.codec, wanted, batch, stored, share, parts)
        for output in outputs:
            output["file"] = [stream.file] * len(output["name"])
            output["shared_file"] = True
        return outputs

    def _decoded_as(
        self,
        codec: DigitCodec,
        label: int,
        batch: Any,
        stored: StoredDigits,
        share: Tensor,
        parts: dict[str, Tensor],
    ) -> list[StepOutput]:
        """The series of images of other labels, decoded as if they had this one."""
        others = (batch["label"] != label).nonzero().flatten()
        if not len(others):
            return []
        name, a = list(self._names().items())[-1]
        names = [batch["name"][i] for i in others.tolist()]
        chosen = {"dataset": batch["dataset"], "name": names, "image": batch["image"][others]}
        wanted = torch.full_like(others, label)
        part = StoredDigits(stored.code[others], wanted, stored.keys[others.to(stored.keys.device)])
        pictures = codec.pictures(codec.code_of(part), part.keys, self.trained_g2())
        decoder = Decoder(batch["dataset"], f"{name}_as_{label}", a)
        parts = {latent: values[others] for latent, values in parts.items()}
        output = self._output(chosen, decoder, interpolate(*pictures, a), share[others], parts)
        output["label"] = wanted
        return [output]

    # -- records ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note how to rebuild the trained g2, too."""
        super().on_save_checkpoint(checkpoint)
        if (g2 := self.trained_g2()) is not None:
            checkpoint["perceptual"] = g2.config()

    def result_identity(self) -> dict[str, Any]:
        """What a result record is about: codec, setting, weights of all decoders, parameters and operations."""
        parts = {"codec": self.codec}
        counts, macs = self.codec.parameter_counts(), self.codec.kmacs_per_pixel()
        if (g2 := self.trained_g2()) is not None:
            parts["g2"] = g2  # type: ignore[assignment]
            counts["g2"] = sum(p.numel() for p in g2.parameters())
            macs["g2"] = self._kmacs_of(g2)
        return {
            "codec": self.codec.name,
            "lambda": self.trade_off(),
            "setting": self.setting(),
            "training": self.training_details(),
            "parameters": counts,
            "kmacs_per_pixel": macs,
            "weights": digest(repr(self.codec.config()), parts),
        }

    def _kmacs_of(self, g2: PerceptualDecoder) -> float:
        """Thousands of multiply-accumulate operations per pixel of the picture."""
        code = torch.zeros(self.codec.code_shape(), device=self.device)
        noise = torch.zeros(1, g2.noise_dim, device=self.device)
        training = g2.training
        g2.eval()
        shape: list[torch.Size] = []
        macs = macs_by_part({"g2": g2}, lambda: shape.append(g2(code, noise).shape))["g2"]
        g2.train(training)
        return macs / 1000 / (shape[0][-2] * shape[0][-1])
