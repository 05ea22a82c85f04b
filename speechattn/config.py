"""What is built, as frozen dataclasses. Standard library only; trainconfig.py has how it is trained.

Every config turns into plain JSON with `to_dict` and back with a strict `from_dict` (see plain.py), and an
impossible combination is refused when the config is built, not after an hour of work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.framing import Framing
from speechattn.plain import check_choice, from_dict, to_dict

BLOCKS = ("transformer", "mlp", "linear")
POSITIONS = ("none", "sinusoidal", "rotary", "relative")
SCORES = ("softmax", "relu")
FLAVORS = ("kaldi", "librosa")

DEFAULT_CONTEXT = Context.truncated(left=64, right=64)
NO_SPLICE = Context.truncated(left=0, right=0)


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder: frames [B, T, input_dim] -> [B, T, d_model].

    Args:
        input_dim: features of an input frame.
        d_model: features inside and at the output.
        num_heads: attention heads; divides d_model.
        num_layers: blocks, or hidden layers of an MLP.
        d_ff: width of the feed-forward layers; None is 4 * d_model.
        context: what a frame may see in one layer, or one Context per layer; only attention uses it.
        block: "transformer", or the baselines "mlp" and "linear".
        positions: "none", "sinusoidal", "rotary" or "relative".
        scores: "softmax" or "relu".
        dropout: probability, on the residual branches.
        splice: neighbours put beside each frame at the input: Context.truncated(5, 5) makes 11 frames of one.
    """

    input_dim: int
    d_model: int = 256
    num_heads: int = 4
    num_layers: int = 6
    d_ff: int | None = None
    context: Context | tuple[Context, ...] = DEFAULT_CONTEXT
    block: str = "transformer"
    positions: str = "relative"
    scores: str = "softmax"
    dropout: float = 0.1
    splice: Context = NO_SPLICE

    def __post_init__(self) -> None:
        for name in ("input_dim", "d_model", "num_heads", "num_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"EncoderConfig.{name} must be 1 or more, got {getattr(self, name)}.")
        if self.d_ff is not None and self.d_ff < 1:
            raise ConfigError(f"EncoderConfig.d_ff must be 1 or more, or None for 4 * d_model, got {self.d_ff}.")
        check_choice("EncoderConfig", "block", self.block, BLOCKS)
        check_choice("EncoderConfig", "positions", self.positions, POSITIONS)
        check_choice("EncoderConfig", "scores", self.scores, SCORES)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"EncoderConfig.dropout must be in [0, 1), got {self.dropout}.")
        if isinstance(self.context, list):
            object.__setattr__(self, "context", tuple(self.context))
        contexts = self.context if isinstance(self.context, tuple) else (self.context,)
        for context in (*contexts, self.splice):
            if not isinstance(context, Context):
                raise ConfigError(
                    f"EncoderConfig.context must be a Context, or one per layer, and splice one; got {context!r}. "
                    "Try Context.truncated(left=64, right=64)."
                )
        if isinstance(self.context, tuple) and len(self.context) != self.num_layers:
            raise ConfigError(
                f"EncoderConfig.context must be one Context or one per layer: got {len(self.context)} "
                f"for num_layers={self.num_layers}."
            )
        if self.block == "transformer":
            self._check_heads()
        if not self.splice.limited or self.splice.chunk != 1:
            raise ConfigError(
                f"EncoderConfig.splice is a window of frames at the input: it must be "
                f"Context.truncated(left, right) with two limits, got ({self.splice})."
            )

    def _check_heads(self) -> None:
        if self.d_model % self.num_heads:
            near = [heads for heads in range(1, self.d_model + 1) if self.d_model % heads == 0]
            nearest = min(near, key=lambda heads: abs(heads - self.num_heads))
            raise ConfigError(
                f"EncoderConfig.num_heads must divide d_model: {self.d_model} features do not split into "
                f"{self.num_heads} heads; use num_heads={nearest}."
            )
        if self.positions == "rotary" and self.d_model // self.num_heads % 2:
            raise ConfigError(
                f'EncoderConfig.positions="rotary" turns pairs of features: a head must be even, '
                f"got d_model / num_heads = {self.d_model // self.num_heads}."
            )

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Everything that mixes frames, next to the input first: the splice, if there is one, then each layer."""
        splice = () if self.splice == NO_SPLICE else (self.splice,)
        return splice + (self.layer_contexts if self.block == "transformer" else ())

    @property
    def layer_contexts(self) -> tuple[Context, ...]:
        """The context of each of the num_layers attention layers."""
        return self.context if isinstance(self.context, tuple) else (self.context,) * self.num_layers

    @property
    def spliced_dim(self) -> int:
        """Features of an input frame beside its neighbours."""
        return self.input_dim * len(self.splice.offsets())

    @property
    def feed_forward_dim(self) -> int:
        """d_ff, or 4 * d_model."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EncoderConfig:
        """The config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)


@dataclass(frozen=True)
class ModelConfig:
    """Frontend, encoder and the classes of the head: all that a saved model needs besides its weights."""

    classes: tuple[str, ...]
    encoder: EncoderConfig
    num_mels: int = 80
    flavor: str = "kaldi"
    framing: Framing = field(default_factory=Framing)

    def __post_init__(self) -> None:
        check_choice("ModelConfig", "flavor", self.flavor, FLAVORS)
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"ModelConfig.classes must be 2 or more different names, got {list(self.classes)}.")
        if self.encoder.input_dim != self.num_mels:
            raise ConfigError(
                f"ModelConfig.encoder.input_dim must equal num_mels, got {self.encoder.input_dim} and {self.num_mels}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)
