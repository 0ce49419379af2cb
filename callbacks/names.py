"""The names of everything that is logged: `{stage}/{dataset}/{metric}`, built here and nowhere else.

Where one bitstream has several decoders, the data set stands with its decoder: `test/mnist-test-g2/mse`.

Dashboards, sweeps, `ModelCheckpoint.monitor` and result records rely on these names, so they do not change.
"""

from typing import Literal

Stage = Literal["val", "test"]

PSNR = "psnr"
MSE = "mse"
MS_SSIM = "ms_ssim"
LPIPS = "lpips"
DISTS = "dists"
PIEAPP = "pieapp"
FID = "fid"
KID = "kid"
KID_STD = "kid_std"
CMMD = "cmmd"
CONFID = "confid"
CONFID_FLOOR = "confid_floor"
ACCURACY = "accuracy"
ACCURACY_ORIGINAL = "accuracy_original"
MIOU = "miou"
MIOU_ORIGINAL = "miou_original"
BLEU_4 = "bleu_4"
CIDER_D = "cider_d"
SPICE = "spice"
BPP = "bpp"
BPP_LIKELIHOOD = "bpp_likelihood"
BPP_GAP = "bpp_gap"
BPP_R_Y_CONSTANT = "bpp_r_y_constant"
BITS = "bits"
BITS_LIKELIHOOD = "bits_likelihood"
ENCODE_MS = "encode_ms"
DECODE_MS = "decode_ms"

RECONSTRUCTIONS = "reconstructions"
GRID = "grid"

RD_POINTS = "rd_points"
"""The table of a test's points, in W&B; see `callbacks.wandb_points`."""
RECORDS = "results"
"""Folder of result records, in the run directory and among a W&B run's files."""

IMAGES_PER_SECOND = "train/images_per_second"
PEAK_MEMORY = "train/peak_memory_gib"


def metric_key(stage: Stage, dataset: str, metric: str) -> str:
    """Logged name of a metric, for example `val/kodak/psnr`.

    Raises:
        ValueError: a part is empty or holds a slash, which would change the number of levels.
    """
    for part in (stage, dataset, metric):
        if not part or "/" in part:
            raise ValueError(f"cannot build a logged name from {(stage, dataset, metric)}: bad part {part!r}")
    return f"{stage}/{dataset}/{metric}"


def train_key(figure: str) -> str:
    """Logged name of a figure of training, for example `train/aux_loss`."""
    return f"train/{figure}"


def latent_bpp(latent: str) -> str:
    """Metric name of one latent's share of the likelihood rate, for example `bpp_y`."""
    return f"bpp_{latent}"


def lpips_name(net: str, input_range: str) -> str:
    """Metric name of an LPIPS protocol: `lpips` for AlexNet on [-1, 1], with `_vgg` and `_01` for the
    departures.

    Figures of different protocols are not comparable, so they never share a name.
    """
    return LPIPS + ("_vgg" if net == "vgg" else "") + ("_01" if input_range == "[0,1]" else "")


def feature_figure(figure: str, extractor: str, default: str) -> str:
    """Metric name of a figure on features: plain with the extractor that is customary for it, otherwise with the
    extractor's name, for example `fid_clip_vit_l14_336`.
    """
    return figure if extractor == default else f"{figure}_{extractor}"
