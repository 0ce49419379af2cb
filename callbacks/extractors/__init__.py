"""Feature extractors: the networks behind FID, KID, CMMD and ConFID.

Each is given in YAML as the `extractor` of a metric, by class path with plain `init_args`. Metrics with equal
extractors share one network and one pass.
"""

from callbacks.extractors.base import FeatureExtractor
from callbacks.extractors.clip_vision import ClipVision
from callbacks.extractors.digit_features import DigitFeatures
from callbacks.extractors.inception import Inception
from callbacks.extractors.lpips_backbone import LpipsBackbone
from callbacks.extractors.random_features import RandomFeatures

__all__ = ["ClipVision", "DigitFeatures", "FeatureExtractor", "Inception", "LpipsBackbone", "RandomFeatures"]
