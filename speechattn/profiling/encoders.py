"""The encoders of a profile, ready to run: speechattn's offline and streaming, and torchaudio's of the same size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from speechattn.encoder.baselines import build_encoder
from speechattn.errors import UserError
from speechattn.profiling.isolated import CannotRunError
from speechattn.profiling.settings import CONFORMER_TAPS, PEERS, Settings
from speechattn.system.optional_imports import require_torchaudio

SEED = 0


class ProfiledEncoder:
    """An encoder, and one pass of it over so many seeded random frames.

    `prepare` makes the input, which is not measured. Its pass returns the shape of the output, which counts while the
    pass runs; a stream drops its output, and makes its input push by push.

    Raises:
        CannotRunError: a package is missing, or the encoder does not have this mode.
    """

    def __init__(self, settings: Settings, encoder: str) -> None:
        if encoder == "streaming" and settings.mode == "training":
            raise CannotRunError("a stream carries no gradient: nothing can be trained through it")
        torch.manual_seed(SEED)
        self.settings, self.streams = settings, encoder == "streaming"
        try:
            model = Peer(settings, encoder) if encoder in PEERS else build_encoder(settings.encoder_config(encoder))
        except UserError as error:
            raise CannotRunError(str(error)) from error
        self.model: Any = model.to(settings.device).train(settings.mode == "training")
        self.state_bytes: int | None = None

    def prepare(self, frames: int) -> tuple[Callable[[], list[int]], list[Tensor]]:
        """Return a pass over `frames` frames, and all tensors that exist before it."""
        given: list[Tensor] = []
        run: Callable[..., list[int]]
        if self.streams:
            run = self._stream
        else:
            given = [self._random(frames, torch.Generator().manual_seed(SEED))]
            run = self._train if self.settings.mode == "training" else self._infer
        weights = [*self.model.parameters(), *self.model.buffers()]
        grads = [weight.grad for weight in weights if weight.grad is not None]
        return lambda: run(frames, *given), [*weights, *grads, *given]

    @property
    def weights_bytes(self) -> int:
        """Bytes of parameters and buffers."""
        return sum(weight.nbytes for weight in (*self.model.parameters(), *self.model.buffers()))

    @torch.no_grad()
    def _infer(self, frames: int, x: Tensor) -> list[int]:
        return list(self.model(x)[0].shape)

    def _train(self, frames: int, x: Tensor) -> list[int]:
        """Run forward, and backward of the mean square of the output."""
        hidden = self.model(x)[0]
        hidden.square().mean().backward()
        return list(hidden.shape)

    def _stream(self, frames: int) -> list[int]:
        """Run push after push, each made when it is needed."""
        settings, count, width = self.settings, 0, 0
        try:
            state = self.model.initial_state(settings.batch_size)
        except (AttributeError, ValueError) as error:
            raise CannotRunError(f"cannot stream: {error}") from error
        for push in self._pushes(frames):
            hidden, state = self.model.step(push, state)
            count, width = count + hidden.shape[1], hidden.shape[2]
        self.state_bytes = state.num_bytes
        return [settings.batch_size, count + self.model.flush(state).shape[1], width]

    def _pushes(self, frames: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        for start in range(0, frames, self.settings.push):
            yield self._random(min(self.settings.push, frames - start), generator)

    def _random(self, frames: int, generator: torch.Generator) -> Tensor:
        shape = (self.settings.batch_size, frames, self.settings.config.input_dim)
        return torch.randn(shape, generator=generator).to(self.settings.device)


class Peer(nn.Module):
    """torchaudio's Emformer or Conformer behind a linear layer: frames [B, T, input_dim] -> (hidden, lengths)."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__()
        models = require_torchaudio(f"--encoders {name}").models
        config = settings.config
        size = (config.d_model, config.num_heads, config.feed_forward_dim, config.num_layers)
        self.input = nn.Linear(config.input_dim, config.d_model)
        self.ahead = settings.right // 2 if name == "emformer" else 0
        if name == "emformer":
            sides = {"left_context_length": settings.left // 2, "right_context_length": self.ahead}
            self.model = models.Emformer(*size, settings.chunk, dropout=0.0, **sides)
        else:
            self.model = models.Conformer(*size, CONFORMER_TAPS, dropout=0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (hidden [B, T, D], lengths) of frames [B, T, input_dim]."""
        x = self.input(x)
        if self.ahead:  # Emformer takes right context frames behind the last segment
            x = nn.functional.pad(x, (0, 0, 0, self.ahead))
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
        hidden: Tensor
        hidden, lengths = self.model(x, lengths)
        return hidden, lengths
