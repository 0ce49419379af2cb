"""Lightning callbacks: metrics, records, pictures and guards.

Each is given in YAML by class path (`callbacks.Psnr`) with plain `init_args`. They read step outputs
(`lightning_modules.step_output.StepOutput`) and know nothing of the module that made them. All files go below
the run directory, which is `trainer.default_root_dir`.
"""

from callbacks.caption_similarity import CaptionSimilarity
from callbacks.checkpoint_artifacts import CheckpointArtifacts
from callbacks.distribution import Cmmd, ConFid, Fid, Kid, PatchFid
from callbacks.guards import NonFiniteLossError, StopOnNonFiniteLoss
from callbacks.label_maps import LabelMaps
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.metric import MetricCallback
from callbacks.per_image import PerImageMetric
from callbacks.perceptual import Dists, PieApp
from callbacks.quality import Lpips, Mse, MsSsim, Psnr
from callbacks.rate import Bits, Bpp, CodingTime
from callbacks.reconstructions import Reconstructions
from callbacks.result_record import ResultExistsError, ResultRecord
from callbacks.sample_grid import SampleGrid
from callbacks.save_config import SaveRunConfig
from callbacks.tasks import Accuracy, MeanIou
from callbacks.throughput import Throughput

__all__ = [
    "Accuracy",
    "Bits",
    "Bpp",
    "CaptionSimilarity",
    "CheckpointArtifacts",
    "Cmmd",
    "CodingTime",
    "ConFid",
    "Dists",
    "Fid",
    "Kid",
    "LabelMaps",
    "LastCheckpoint",
    "Lpips",
    "MeanIou",
    "MetricCallback",
    "MsSsim",
    "Mse",
    "NonFiniteLossError",
    "PatchFid",
    "PerImageMetric",
    "PieApp",
    "Psnr",
    "Reconstructions",
    "ResultExistsError",
    "ResultRecord",
    "SampleGrid",
    "SaveRunConfig",
    "StopOnNonFiniteLoss",
    "Throughput",
]
