from .caption_similarity import CaptionSimilarity
from .checkpoint_artifacts import CheckpointArtifacts
from .distribution import Cmmd, ConFid, Fid, Kid, PatchFid
from .guards import NonFiniteLossError, StopOnNonFiniteLoss
from .label_maps import LabelMaps
from .last_checkpoint import LastCheckpoint
from .metric import MetricCallback
from .per_image import PerImageMetric
from .perceptual import Dists, PieApp
from .quality import Lpips, Mse, MsSsim, Psnr
from .rate import Bits, Bpp, CodingTime
from .reconstructions import Reconstructions
from .result_record import ResultExistsError, ResultRecord
from .sample_grid import SampleGrid
from .save_config import SaveRunConfig
from .tasks import Accuracy, MeanIou
from .throughput import Throughput

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
