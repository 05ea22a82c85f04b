"""Models that are part of the package; each folder here is one, with a card of its data and accuracy."""

from __future__ import annotations

from pathlib import Path

from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load

FOLDER = Path(__file__).parent
PRETRAINED = ("small-en-phones",)


def load_pretrained(name: str = "small-en-phones") -> SpeechModel:
    """Return a pretrained model in evaluation mode; nothing is downloaded.

    Args:
        name: "small-en-phones" classifies frames as one of 41 English phones: 0.99 million weights, 170 ms look-ahead.

    Raises:
        UserError: the package has no model of that name.

    Examples:
        >>> model = load_pretrained("small-en-phones")
        >>> len(model.config.classes)
        41
    """
    if name not in PRETRAINED:
        raise UserError(f"{name!r} is not a pretrained model: use {' or '.join(map(repr, PRETRAINED))}.")
    return load(FOLDER / name)
