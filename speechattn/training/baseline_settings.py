"""Settings of a single baseline, as text: a baseline is only honest at settings that suit it. Standard library only."""

from __future__ import annotations

from typing import Any

from speechattn.errors import ConfigError
from speechattn.system.serialization import parse_json

ALLOWED = (
    "left",
    "right",
    "chunk",
    "splice",
    "d_model",
    "num_heads",
    "num_layers",
    "d_ff",
    "dropout",
    "layer_dropout",
    "conv_kernel",
    "cnn_kernel",
    "gru_width",
    "mlp_width",
    "mlp_splice",
    "epochs",
    "batch_frames",
    "crop_frames",
    "learning_rate",
    "warmup_steps",
    "weight_decay",
    "augment",
    "stretch",
)
"""Settings of encoder and training. Data, features, validation and machine are the same for all encoders of a run."""


def parse_baseline_setting(text: str) -> tuple[str, str, Any]:
    """Return (encoder, setting, value) of "ENCODER.SETTING=VALUE"; the value is JSON.

    Raises:
        ConfigError: the text has another form, or all encoders of a run share the setting.

    Examples:
        >>> parse_baseline_setting("mlp.dropout=0.3")
        ('mlp', 'dropout', 0.3)
        >>> parse_baseline_setting("mlp.augment=false")
        ('mlp', 'augment', False)
    """
    name, equals, value = text.partition("=")
    encoder, dot, setting = name.replace("-", "_").partition(".")
    if not (equals and dot):
        raise ConfigError(f"TrainConfig.baseline_settings must be ENCODER.SETTING=VALUE, got {text!r}.")
    if setting not in ALLOWED:
        raise ConfigError(
            f"TrainConfig.baseline_settings has {text!r}; a baseline may have its own {', '.join(ALLOWED)}."
        )
    try:
        return encoder, setting, parse_json(value)
    except ValueError as error:
        raise ConfigError(
            f"TrainConfig.baseline_settings has {text!r}, whose value is no number, true or false."
        ) from error
