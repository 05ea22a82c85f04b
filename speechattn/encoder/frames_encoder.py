"""FramesEncoder: the config, and the numbers derived from it, that every encoder of `build_encoder` has."""

from __future__ import annotations

from torch import nn

from speechattn.config import EncoderConfig
from speechattn.encoder.input import InputLayer
from speechattn.framing import HOP_MS
from speechattn.receptive_field import (
    describe,
    format_latency,
    lookahead,
    lookback,
    max_receptive_field,
    receptive_field,
)


class FramesEncoder(nn.Module):
    """Base class of encoders: frames -> hidden. All derived numbers are in input frames."""

    hop_ms: float = HOP_MS
    """Length of an input frame in ms, for what is printed; a SpeechModel sets that of its frontend."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.input_layer = InputLayer(config)

    def receptive_field(self, i: int, num_frames: int | None = None) -> tuple[int, int | None]:
        """Return the half-open range of input frames that output frame `i` depends on, through all layers.

        With `stack`, output frame i stands for the input frames from i * stack on.
        """
        config = self.config
        before, after = config.contexts[: config.num_entry_contexts], config.contexts[config.num_entry_contexts :]
        # No output depends on the remainder that does not fill a stack, except as a neighbour that is spliced.
        whole = None if num_frames is None else num_frames // config.stack * config.stack
        start, stop = receptive_field(after, i * config.stack, whole)
        start, _ = receptive_field(before, start, num_frames)
        return start, None if stop is None else receptive_field(before, stop - 1, num_frames)[1]

    @property
    def lookahead(self) -> int | None:
        """The most future frames that any output waits for; None is all of them."""
        return lookahead(self.config.contexts)

    @property
    def lookback(self) -> int | None:
        """The most past frames that any output depends on; None is all of them."""
        return lookback(self.config.contexts)

    def describe(self, hop_ms: float | None = None) -> str:
        """Return a table of what is seen back, waited for and kept, per layer and in total, in frames and ms.

        A frame is `hop_ms` long; None takes the attribute, which a SpeechModel sets to that of its frontend.
        """
        return describe(self.config.contexts, self.hop_ms if hop_ms is None else hop_ms, self.config.context_names)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def extra_repr(self) -> str:
        """Return receptive field, look-ahead, size and latency, for what is printed."""
        contexts = self.config.contexts
        derived = {
            "receptive_field": max_receptive_field(contexts),
            "lookback": self.lookback,
            "lookahead": self.lookahead,
        }
        texts = [f"{name}={'unlimited' if frames is None else frames}" for name, frames in derived.items()]
        texts.append(f"parameters={self.num_parameters:,}")
        if self.lookahead is None:
            return ", ".join(texts)
        # Another line: the latency in ms, and how much of it each layer adds.
        waits = [format_latency(contexts[:depth], self.hop_ms) for depth in range(1, len(contexts) + 1)]
        through = [f"{name}: {wait}" for name, wait in zip(self.config.context_names, waits, strict=True)]
        total = f"latency {format_latency(contexts, self.hop_ms)} (min / mean / max, frames of {self.hop_ms:g} ms)"
        return ", ".join(texts) + f"\n{total}" + (f", through {', '.join(through)}" if len(through) > 1 else "")
