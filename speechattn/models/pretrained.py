"""The model that comes with the package: a small one that streams phones, for `speechattn stream` and to begin with.

Its card, with what it was trained on and how often it is right, is `small-en-phones/README.md` beside this file.
"""

from __future__ import annotations

from pathlib import Path

from speechattn.models.speech_model import SpeechModel, load

SMALL = Path(__file__).parent / "small-en-phones"


def small_model() -> SpeechModel:
    """A frame classifier of 41 phones in English, 0.84 million weights, a look-ahead of 190 ms, in evaluation mode.

    Example:
        >>> model = small_model()
        >>> len(model.config.classes)
        41
    """
    return load(SMALL)
