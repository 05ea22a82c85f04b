"""From samples to frames: log-mel and MFCC, corpus normalisation, training-time changes of frames and waveforms."""

from speechattn.frontend.augment import Augment, time_stretch
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC
from speechattn.frontend.normalize import Normalize
from speechattn.frontend.perturb import change_speed, mix_noise
from speechattn.frontend.specaugment import SpecAugment

__all__ = ["MFCC", "Augment", "LogMel", "Normalize", "SpecAugment", "change_speed", "mix_noise", "time_stretch"]
