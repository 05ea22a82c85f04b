"""EncoderConfig, the settings of an encoder; model_config.py has those of a whole model.

A config turns into plain JSON with `to_dict` and back with a strict `from_dict` (see system/serialization.py). An
impossible combination is refused when the config is built, not after an hour of work. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.system.renamed_arguments import renamed
from speechattn.system.serialization import check_choice, from_dict, take_numbers, to_dict

BLOCKS = ("transformer", "conformer", "cnn", "bigru", "mlp", "linear")
ATTENTION_BLOCKS = ("transformer", "conformer")
CONVOLUTION_BLOCKS = ("conformer", "cnn")
POSITION_ENCODINGS = ("none", "sinusoidal", "learned", "rotary", "relative", "alibi")
ACTIVATIONS = ("softmax", "relu")
BACKENDS = ("auto", "dense", "banded", "native", "sdpa", "windows", "flex", "triton")
STACKS = (1, 2, 4)
MAX_LAYERS = 10_000
"""A config lists the context of every layer, which takes memory."""

DEFAULT_CONTEXT = Context.truncated(left=64, right=64)
NO_SPLICE = Context.truncated(left=0, right=0)
RENAMED = {"execution": "backend", "scores": "activation", "positions": "position_encoding"}
"""Settings of EncoderConfig under another name in format 1 of saved models."""


@renamed(**RENAMED)
@dataclass(frozen=True)
class EncoderConfig:
    """The settings of an encoder: frames [B, T, input_dim] -> [B, T // stack, d_model].

    Settings that a block does not have are ignored: context, heads, position_encoding, activation and backend belong
    to attention, conv_* to "conformer" and "cnn", layer_dropout and gradient_checkpointing to these and "transformer".
    All but `input_dim` are keyword-only.

    Raises:
        ConfigError: a setting has no such value, or is impossible together with another.

    Examples:
        >>> EncoderConfig(input_dim=80, context=Context.truncated(left=32, right=8)).contexts[0]
        Context(left=32, right=8, chunk=1)
    """

    input_dim: int
    """Features of an input frame: `num_mels` of a log-mel frontend."""
    _: KW_ONLY
    d_model: int = 256
    """Features of a frame inside the encoder and at its output."""
    num_heads: int = 4
    """Attention heads; divides d_model."""
    num_layers: int = 6
    """Blocks, or hidden layers of an MLP."""
    d_ff: int | None = None
    """Width of the feed-forward layers (a conformer block has two); None is 4 * d_model."""
    context: Context | tuple[Context, ...] = DEFAULT_CONTEXT
    """Frames that a frame may attend to in one layer, or one Context per layer; counted in stacked frames."""
    block: str = "transformer"
    """"transformer" or "conformer"; or a baseline without attention: "cnn", "bigru", "mlp", "linear"."""
    position_encoding: str = "relative"
    """"none"; "sinusoidal" or "learned", added to the input; "rotary", "relative" or "alibi", in every layer."""
    activation: str = "softmax"
    """Activation of the scores: "softmax", or "relu", max(score, 0) divided by the number of visible keys."""
    dropout: float = 0.1
    """Probability in [0, 1) that training zeroes a number on the residual branches."""
    stack: int = 1
    """Consecutive frames that become one at the input: 1, 2 or 4; a remainder at the end is dropped."""
    conv_kernel: int = 15
    """Taps of the convolutions of "conformer" and "cnn", in stacked frames."""
    conv_lookahead: int | Literal["symmetric"] = "symmetric"
    """Taps that lie in the future, in stacked frames: 0 is causal, "symmetric" half of an odd kernel."""
    splice: Context = NO_SPLICE
    """Neighbours that are concatenated to each input frame: Context.truncated(5, 5) makes 11 frames of one."""
    max_frames: int = 4096
    """Rows of the table of learned positions, in stacked frames."""
    layer_dropout: float = 0.0
    """Probability in [0, 1) that training skips a block (Fan et al. 2020)."""
    gradient_checkpointing: bool = False
    """True: training keeps the input of each block and recomputes the rest: less memory, a third more time."""
    backend: str = "auto"
    """Implementation of attention, see `attention`; the result is the same, and a stream always uses "auto"."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED

    def __post_init__(self) -> None:
        take_numbers(self)
        for name in ("input_dim", "d_model", "num_heads", "num_layers", "conv_kernel", "max_frames", "stack"):
            if not _is_count(getattr(self, name)):
                raise ConfigError(f"EncoderConfig.{name} must be 1 or more, and whole, got {getattr(self, name)!r}.")
        if self.num_layers > MAX_LAYERS:
            raise ConfigError(f"EncoderConfig.num_layers must be at most {MAX_LAYERS}, got {self.num_layers}.")
        if self.d_ff is not None and not _is_count(self.d_ff):
            raise ConfigError(f"EncoderConfig.d_ff must be 1 or more, or None for 4 * d_model, got {self.d_ff!r}.")
        if not isinstance(self.gradient_checkpointing, bool):
            raise ConfigError(
                f"EncoderConfig.gradient_checkpointing is True or False, got {self.gradient_checkpointing!r}."
            )
        check_choice("EncoderConfig", "block", self.block, BLOCKS)
        check_choice("EncoderConfig", "position_encoding", self.position_encoding, POSITION_ENCODINGS)
        check_choice("EncoderConfig", "activation", self.activation, ACTIVATIONS)
        check_choice("EncoderConfig", "backend", self.backend, BACKENDS)
        for name in ("dropout", "layer_dropout"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share < 1:
                raise ConfigError(f"EncoderConfig.{name} must be in [0, 1), got {share!r}.")
        if self.stack not in STACKS:
            raise ConfigError(f"EncoderConfig.stack must be one of {STACKS} frames, got {self.stack!r}.")
        if isinstance(self.context, list):
            object.__setattr__(self, "context", tuple(self.context))
        contexts = self.context if isinstance(self.context, tuple) else (self.context,)
        for name, context in (*(("context", context) for context in contexts), ("splice", self.splice)):
            if not isinstance(context, Context):
                raise ConfigError(
                    f"EncoderConfig.{name} must be a Context{', or one per layer' * (name == 'context')}, "
                    f"got {context!r}. Try Context.truncated(left=5, right=5)."
                )
        if isinstance(self.context, tuple) and len(self.context) != self.num_layers:
            raise ConfigError(
                f"EncoderConfig.context must be one Context or one per layer: got {len(self.context)} "
                f"for num_layers={self.num_layers}."
            )
        if self.block in ATTENTION_BLOCKS:
            self._check_heads()
        if self.block == "bigru" and self.d_model % 2:
            raise ConfigError(
                f'EncoderConfig.d_model must be even for block="bigru", half of it for each direction; got '
                f"{self.d_model}, use {self.d_model + 1}."
            )
        self._check_convolution()
        if not self.splice.limited or self.splice.chunk != 1:
            raise ConfigError(
                f"EncoderConfig.splice is a window of frames at the input: it must be "
                f"Context.truncated(left, right) with two limits, got ({self.splice})."
            )

    def _check_heads(self) -> None:
        if self.d_model % self.num_heads:
            nearest = _nearest_divisor(self.d_model, self.num_heads)
            raise ConfigError(
                f"EncoderConfig.num_heads must divide d_model: {self.d_model} features do not split into "
                f"{self.num_heads} heads; use num_heads={nearest}."
            )
        if self.position_encoding == "rotary" and self.d_model // self.num_heads % 2:
            raise ConfigError(
                f'EncoderConfig.position_encoding="rotary" turns pairs of features: a head must be even, '
                f"got d_model / num_heads = {self.d_model // self.num_heads}."
            )

    def _check_convolution(self) -> None:
        ahead = self.conv_lookahead
        if ahead == "symmetric":
            if self.conv_kernel % 2 == 0:
                raise ConfigError(
                    f"EncoderConfig.conv_kernel must be odd for a symmetric look-ahead, got {self.conv_kernel}: use "
                    f"conv_kernel={self.conv_kernel + 1}, or conv_lookahead={self.conv_kernel // 2}."
                )
        elif not isinstance(ahead, int) or isinstance(ahead, bool) or not 0 <= ahead < self.conv_kernel:
            raise ConfigError(
                f"EncoderConfig.conv_lookahead must be in [0, conv_kernel - 1 = {self.conv_kernel - 1}], or "
                f'"symmetric", got {ahead!r}.'
            )

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Contexts of all that mixes frames, next to the input first, counted in input frames.

        They are the splice and the stack, if there are any, then each layer; a conformer block has two, attention and
        convolution.
        """
        entry: tuple[Context, ...] = () if self.splice == NO_SPLICE else (self.splice,)
        if self.stack > 1:
            entry += (Context(0, 0).stacked(self.stack),)
        return entry + tuple(context.stacked(self.stack) for _, context in self._mixing)

    @property
    def num_entry_contexts(self) -> int:
        """Number of `contexts` before the stacking: they see the frames that a remainder of a stack drops."""
        return int(self.splice != NO_SPLICE)

    @property
    def context_names(self) -> tuple[str, ...]:
        """Names of `contexts`: "splice", "stacking", then numbered layers."""
        entry = ("splice",) * (self.splice != NO_SPLICE) + ("stacking",) * (self.stack > 1)
        return entry + tuple(name for name, _ in self._mixing)

    @property
    def _mixing(self) -> list[tuple[str, Context]]:
        """Name and context, in stacked frames, of each layer that mixes frames."""
        numbered = list(enumerate(self.layer_contexts, start=1))
        if self.block == "transformer":
            return [(str(n), context) for n, context in numbered]
        if self.block == "conformer":
            pairs = (((f"{n} attention", context), (f"{n} conv", self.convolution)) for n, context in numbered)
            return [entry for pair in pairs for entry in pair]
        if self.block == "cnn":
            return [(str(n), self.convolution) for n, _ in numbered]
        if self.block == "bigru":
            return [(str(n), Context.full()) for n, _ in numbered]
        return []

    @property
    def layer_contexts(self) -> tuple[Context, ...]:
        """The context of each of the num_layers attention layers, in stacked frames."""
        return self.context if isinstance(self.context, tuple) else (self.context,) * self.num_layers

    @property
    def convolution(self) -> Context:
        """The window of a convolution of `conv_kernel` taps, in stacked frames."""
        ahead = self.conv_kernel // 2 if self.conv_lookahead == "symmetric" else self.conv_lookahead
        return Context.truncated(self.conv_kernel - 1 - ahead, ahead)

    @property
    def entry_dim(self) -> int:
        """Features of an input frame after splicing and stacking."""
        return self.input_dim * len(self.splice.offsets()) * self.stack

    @property
    def feed_forward_dim(self) -> int:
        """d_ff, or 4 * d_model."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EncoderConfig:
        """Return the config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number` that is nearest to `wanted`; 1 is one, so few are tried."""
    wanted = min(wanted, number)
    pairs = ((wanted - distance, wanted + distance) for distance in range(wanted))
    return next(each for pair in pairs for each in pair if number % each == 0)
