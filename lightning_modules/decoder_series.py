"""Validation and tests of a codec whose bits several decoders read: a series of pictures for each decoder."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.codec_module import CodecModule, to_8_bit
from lightning_modules.codecs.complexity import macs_by_part
from lightning_modules.codecs.conditional_codec import PerceptualDecoder, check_realism, interpolate
from lightning_modules.codecs.digits import NOISE, DigitCodec, StoredDigits
from lightning_modules.codecs.fingerprint import digest
from lightning_modules.codecs.keyed_noise import keyed_normal
from lightning_modules.files import write_atomically
from lightning_modules.losses.rate_distortion import bits
from lightning_modules.step_output import Decoder, StepOutput, handed_on


class TestStream(NamedTuple):
    """A data set as its file holds it, and how far it has been decoded."""

    file: Path
    stored: StoredDigits
    bits_per_image: float
    """Size of the whole file over the number of images."""


class DecoderSeriesModule(CodecModule):
    """Measures a digits codec by every decoder that it has.

    In a test the whole data set is coded into one file (with several processes: one each), which is written, read
    back and decoded before the first figure is taken. Each image's `bits` are its equal share of that file.

    Args:
        codec: f, g1 and the entropy model.
        realism: Places between g1 (0) and g2 (1) to decode at; all from the same bits and the same noise.
        decode_as: Labels to decode with in place of the sent one, by the last decoder of `realism`: a series for
            each, of the images that have another label.

    Raises:
        ValueError: An argument is out of range.
    """

    codec: DigitCodec

    def __init__(self, codec: DigitCodec, realism: Sequence[float], decode_as: Sequence[int]) -> None:
        super().__init__()
        for place in realism:
            check_realism(place)
        if not realism:
            raise ValueError("realism is empty: name at least one place between 0 (g1) and 1 (g2)")
        if decode_as and codec.label is None:
            raise ValueError("decode_as needs a codec with side information: set codec.conditional to true")
        if codec.label is not None:
            codec.label.checked(torch.tensor(list(decode_as), dtype=torch.int64))
        self.codec = codec
        self.realism = list(realism)
        self.decode_as = list(decode_as)
        self._streams: dict[str, TestStream] = {}
        self._taken: dict[str, int] = {}

    def trained_g2(self) -> PerceptualDecoder | None:
        """The perceptual decoder to measure, once there is one worth measuring."""
        return None

    def setting(self) -> dict[str, Any]:
        """What makes this codec a point of its own in a comparison; the first item places it on a curve."""
        return {"code_bits": self.codec.bits, "side_information": "label" if self.codec.label else "none"}

    def training_details(self) -> dict[str, Any]:
        """What else a reader of the record must know of the training."""
        return {"variant": self.codec.variant, "width": self.codec.width}

    # -- pictures ---------------------------------------------------------------------------------------------------

    def _names(self) -> dict[str, float]:
        """Decoder -> realism."""
        if self.codec.noise_dim:
            return {"joint": 1.0}
        if self.trained_g2() is None:
            return {"g1": 0.0}
        return {"g1" if a == 0 else "g2" if a == 1 else f"realism_{a:g}": a for a in self.realism}

    def _pictures(self, read: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What g1 and g2 make of a code, in float32; g1's twice where there is no g2."""
        g2 = self.trained_g2()
        with torch.autocast(read.device.type, enabled=False):
            x_mse = self.codec.reconstruct(read, keys)
            if g2 is None:
                return x_mse, x_mse
            return x_mse, g2(read, keyed_normal(keys, g2.noise_dim, NOISE).to(read.device))

    def _series(
        self, batch: Any, code: Tensor, y: Tensor | None, keys: Tensor, rate: Tensor, parts: dict[str, Tensor]
    ) -> list[StepOutput]:
        """The outputs of all decoders of a batch whose code is known."""
        x_mse, x_perceptual = self._pictures(self.codec.embedded(code, y), keys)
        outputs = []
        for name, a in self._names().items():
            x_hat = interpolate(x_mse, x_perceptual, a)
            outputs.append(self._output(batch, Decoder(batch["dataset"], name, a), x_hat, rate, parts))
        return outputs

    def _output(
        self, batch: Any, decoder: Decoder, x_hat: Tensor, rate: Tensor, parts: dict[str, Tensor]
    ) -> StepOutput:
        output: StepOutput = {
            "dataset": f"{decoder.dataset}-{decoder.name}",
            "decoder": decoder,
            "name": batch["name"],
            "image": batch["image"],
            "x_hat": to_8_bit(x_hat),
            "bits": rate,
            "likelihood_bits": parts,
        }
        output.update(handed_on(batch))  # type: ignore[typeddict-item]
        return output

    def validation_step(self, batch: Any, batch_idx: int) -> list[StepOutput]:  # type: ignore[override]
        """Likelihood rate, and the pictures of all decoders."""
        y = self.codec.side_information(batch)
        with torch.autocast(batch["image"].device.type, enabled=False):
            out = self.codec(batch["image"], y, batch["key"])
        parts = {name: bits(values.double()) for name, values in out["likelihoods"].items()}
        code = out["code"][:, : self.codec.bits]
        return self._series(batch, code, y, batch["key"], torch.stack(list(parts.values())).sum(0), parts)

    # -- testing through one file per data set ----------------------------------------------------------------------

    def on_test_epoch_start(self) -> None:
        """Code the test set, write it, read it back."""
        self._streams = self._write_streams(self.trainer.test_dataloaders, self.trainer.num_test_batches)

    def on_predict_epoch_start(self) -> None:
        """As in a test."""
        self._streams = self._write_streams(self.trainer.predict_dataloaders, self.trainer.num_predict_batches)

    def _write_streams(self, loaders: Any, limits: Sequence[int | float]) -> dict[str, TestStream]:
        loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
        codes: dict[str, list[Tensor]] = {}
        labels: dict[str, list[Tensor]] = {}
        for loader, limit in zip(loaders, limits, strict=True):
            for batch in _first(loader, limit):
                codes.setdefault(batch["dataset"], []).append(self.codec.quantise(batch["image"].to(self.device)))
                y = self.codec.side_information(batch)
                if y is not None:
                    labels.setdefault(batch["dataset"], []).append(y)
        self._taken = dict.fromkeys(codes, 0)
        folder = Path(self.trainer.default_root_dir) / "bitstreams"
        rank = f".rank{self.global_rank}" if self.trainer.world_size > 1 else ""
        streams = {}
        for dataset, parts in codes.items():
            data = self.codec.write(torch.cat(parts), torch.cat(labels[dataset]) if dataset in labels else None)
            file = folder / f"{dataset}{rank}.{self.codec.name}"
            write_atomically(file, functools.partial(Path.write_bytes, data=data))
            stored = self.codec.read(file.read_bytes())
            streams[dataset] = TestStream(file, stored, 8 * file.stat().st_size / len(stored.code))
        return streams

    def test_step(self, batch: Any, batch_idx: int) -> list[StepOutput]:  # type: ignore[override]
        """The pictures that the file of the data set holds."""
        return self._from_stream(batch)

    def predict_step(self, batch: Any, batch_idx: int) -> list[StepOutput]:
        """The same as a test; callbacks then only write pictures."""
        return self._from_stream(batch)

    def _from_stream(self, batch: Any) -> list[StepOutput]:
        dataset, count = batch["dataset"], len(batch["image"])
        stream = self._streams[dataset]
        place = slice(self._taken[dataset], self._taken[dataset] + count)
        self._taken[dataset] += count
        code, keys = stream.stored.code[place], stream.stored.keys[place]
        label = None if stream.stored.label is None else stream.stored.label[place]
        likelihoods = self.codec.likelihoods(code, label)
        parts = {name: bits(values) for name, values in likelihoods.items()}
        share = torch.full((count,), stream.bits_per_image, dtype=torch.float64, device=self.device)
        outputs = self._series(batch, code, label, keys, share, parts)
        for wanted in self.decode_as:
            outputs += self._decoded_as(wanted, batch, code, keys, share, parts)
        for output in outputs:
            output["file"] = [stream.file] * len(output["name"])
            output["shared_file"] = True
        return outputs

    def _decoded_as(
        self, label: int, batch: Any, code: Tensor, keys: Tensor, share: Tensor, parts: dict[str, Tensor]
    ) -> list[StepOutput]:
        """The series of images of other labels, decoded as if they had this one."""
        others = (batch["label"] != label).nonzero().flatten()
        if not len(others):
            return []
        name, a = list(self._names().items())[-1]
        names = [batch["name"][i] for i in others.tolist()]
        chosen = {"dataset": batch["dataset"], "name": names, "image": batch["image"][others]}
        wanted = torch.full_like(others, label)
        pictures = self._pictures(self.codec.embedded(code[others], wanted), keys[others.to(keys.device)])
        decoder = Decoder(batch["dataset"], f"{name}_as_{label}", a)
        parts = {part: values[others] for part, values in parts.items()}
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
            code = torch.zeros(1, self.codec.code_channels, 1, 1, device=self.device)
            noise = torch.zeros(1, g2.noise_dim, device=self.device)
            macs["g2"] = macs_by_part({"g2": g2}, lambda: g2(code, noise))["g2"] / 1000 / 32**2
        return {
            "codec": self.codec.name,
            "lambda": None,
            "setting": self.setting(),
            "training": self.training_details(),
            "parameters": counts,
            "kmacs_per_pixel": macs,
            "weights": digest(repr(self.codec.config()), parts),
        }


def _first(batches: Iterable[Any], limit: int | float) -> Iterable[Any]:
    return batches if limit == float("inf") else islice(batches, int(limit))
