"""From samples to frames: log-mel features, corpus normalisation, training-time augmentation."""

from speechattn.frontend.augment import Augment, time_stretch
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.normalize import Normalize

__all__ = ["Augment", "LogMel", "Normalize", "time_stretch"]
