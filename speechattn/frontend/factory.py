"""The frontend that a config names."""

from __future__ import annotations

from speechattn.framing import Framing
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC
from speechattn.model_config import FEATURES


def build_frontend(
    features: str,
    num_mels: int,
    framing: Framing | None = None,
    flavor: str = "kaldi",
    num_ceps: int = 13,
    deltas: int = 2,
) -> LogMel:
    """Return the frontend that `features` names, "logmel" or "mfcc", with the settings of ModelConfig or TrainConfig.

    Raises:
        ValueError: features is neither, or a number is out of range.
    """
    if features == "logmel":
        return LogMel(num_mels, framing, flavor)
    if features == "mfcc":
        return MFCC(num_ceps, num_mels, framing, flavor, deltas=deltas)
    raise ValueError(f"features must be {' or '.join(FEATURES)}, got {features!r}.")
