"""Attention of other libraries behind the interface of `speechattn.conformance`, each used as its own manual says.

    LocalAttention, LocalMHA                          local-attention (lucidrains)
    LongformerSelfAttention, LongformerModel          transformers (Hugging Face)
    Emformer                                          torchaudio

The wrappers only translate arguments: lengths into each one's mask, any length into the multiples it works on (padded
and masked as its own model does it), and for a stream the frames that must be kept until a segment is full. They do
not repair anything: where a peer reads padding, so does the wrapper. Weights are random and seeded, nothing is
downloaded. Each function imports its peer, so that one that is not installed disturbs no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS = 16, 2
SEED = 0


def valid(lengths: Tensor, num_frames: int) -> Tensor:
    """Bool [B, num_frames], True = real frame."""
    return torch.arange(num_frames) < lengths[:, None]


def local_attention(**settings: Any) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """`LocalAttention`: windows in multiples of window_size, looking back and forward; `autopad` for any length."""
    from local_attention import LocalAttention

    attend = LocalAttention(autopad=True, exact_windowsize=True, **settings)
    return lambda q, k, v, lengths: attend(q, k, v, mask=valid(lengths, q.shape[2]))


class LocalMHA(nn.Module):
    """`LocalMHA` of local-attention, causal, and its cache for one frame after another."""

    def __init__(self, **settings: Any) -> None:
        from local_attention.transformer import LocalMHA as Layer

        super().__init__()
        torch.manual_seed(SEED)
        self.layer = Layer(dim=WIDTH, dim_head=WIDTH // HEADS, heads=HEADS, causal=True, **settings)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (output [B, T, D], lengths) of frames [B, T, D]."""
        return self.layer(frames, mask=valid(lengths, frames.shape[1])), lengths

    def initial_state(self, batch_size: int = 1) -> Tensor | None:
        """Return the state of streams that have not begun."""
        return None

    def step(self, frames: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the output of one push, and the next state."""
        outputs = [frames[:, :0]]
        for frame in frames.unbind(1):
            output, state = self.layer(frame[:, None], cache=state, return_cache=True)
            outputs.append(output)
        return torch.cat(outputs, 1), state

    def flush(self, state: Tensor | None) -> Tensor:
        """Return the pending output."""
        batch_size = 1 if state is None else state.shape[1]  # keys and values [2, B, H, T, D]
        return next(self.parameters()).new_zeros(batch_size, 0, WIDTH)


class LongformerAttention(nn.Module):
    """`LongformerSelfAttention`, one layer, padded to whole windows and masked as `LongformerModel` does it."""

    def __init__(self, one_side: int) -> None:
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

        super().__init__()
        self.window = 2 * one_side
        self.layer = LongformerSelfAttention(longformer_config(self.window, 1), layer_id=0)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (output [B, T, D], lengths) of frames [B, T, D]."""
        num_frames = frames.shape[1]
        frames = functional.pad(frames, (0, 0, 0, -num_frames % self.window))
        padding = ~valid(lengths, frames.shape[1])
        mask = torch.zeros_like(frames[..., 0]).masked_fill(padding, torch.finfo(frames.dtype).min)
        (output,) = self.layer(
            frames,
            attention_mask=mask,
            is_index_masked=mask < 0,
            is_index_global_attn=mask > 0,
            is_global_attn=False,
        )
        return output[:, :num_frames], lengths


class Longformer(nn.Module):
    """`LongformerModel` fed with frames in the place of embedded words."""

    def __init__(self, one_side: int, num_layers: int) -> None:
        from transformers import LongformerModel, logging

        super().__init__()
        logging.set_verbosity_error()  # it logs every input that it pads
        self.model = LongformerModel(longformer_config(2 * one_side, num_layers), add_pooling_layer=False)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (output [B, T, D], lengths) of frames [B, T, D]."""
        mask = valid(lengths, frames.shape[1]).long()
        return self.model(inputs_embeds=frames, attention_mask=mask).last_hidden_state, lengths


def longformer_config(window: int, num_layers: int) -> Any:
    """Return the config of a Longformer with random, seeded weights."""
    from transformers import LongformerConfig

    torch.manual_seed(SEED)
    return LongformerConfig(
        attention_window=[window] * num_layers,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=num_layers,
        intermediate_size=2 * WIDTH,
        vocab_size=8,
        max_position_embeddings=600,
    )


class Emformer(nn.Module):
    """torchaudio's Emformer without memory bank; zeros after the audio are its last right context.

    That is how torchaudio's own RNN-T pipelines call it. `infer` wants whole segments: the stream keeps frames until
    segment and right context are there, and fills up the last one with zeros.
    """

    zeroed = False  # whether the caller has put zeros into the padding

    def __init__(self, segment: int = 4, left: int = 8, right: int = 2, num_layers: int = 2) -> None:
        import torchaudio

        super().__init__()
        torch.manual_seed(SEED)
        self.segment, self.left, self.right, self.num_layers = segment, left, right, num_layers
        self.model = torchaudio.models.Emformer(
            WIDTH, HEADS, 2 * WIDTH, num_layers, segment, left_context_length=left, right_context_length=right
        )

    def reach(self, i: int, num_frames: int) -> tuple[int, int]:
        """Return the receptive field: each layer looks back, and copies the right context of the frame's segment."""
        start = i
        for _ in range(self.num_layers):
            start = max(0, start // self.segment * self.segment - self.left)
        return start, min(num_frames, (i // self.segment + 1) * self.segment + self.right)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (output [B, T, D], lengths) of frames [B, T, D]."""
        if self.zeroed:
            frames = torch.where(valid(lengths, frames.shape[1])[..., None], frames, frames.new_zeros(()))
        return self.model(functional.pad(frames, (0, 0, 0, self.right)), lengths)

    def initial_state(self, batch_size: int = 1) -> tuple[Tensor, Any]:
        """Return the state of streams that have not begun."""
        return next(self.parameters()).new_zeros(batch_size, 0, WIDTH), None

    def step(self, frames: Tensor, state: tuple[Tensor, Any]) -> tuple[Tensor, tuple[Tensor, Any]]:
        """Return the output of one push, and the next state."""
        (kept, states), outputs = state, [frames[:, :0]]
        kept = torch.cat([kept, frames], 1)
        while kept.shape[1] >= self.segment + self.right:
            output, states = self.infer(kept, self.segment, states)
            outputs.append(output)
            kept = kept[:, self.segment :]
        return torch.cat(outputs, 1), (kept.clone(), states)

    def flush(self, state: tuple[Tensor, Any]) -> Tensor:
        """Return the pending output."""
        (kept, states), outputs = state, [state[0][:, :0]]
        while pending := min(kept.shape[1], self.segment):
            output, states = self.infer(functional.pad(kept, (0, 0, 0, self.segment + self.right)), pending, states)
            outputs.append(output[:, :pending])
            kept = kept[:, self.segment :]
        return torch.cat(outputs, 1)

    def infer(self, kept: Tensor, frames: int, states: Any) -> tuple[Tensor, Any]:
        """Return the output of one segment, and the next states."""
        lengths = torch.full((len(kept),), frames + self.right)
        output, _, states = self.model.infer(kept[:, : self.segment + self.right], lengths, states)
        return output, states


class EmformerZeroed(Emformer):
    """The same, by a caller who puts zeros into the padding first."""

    zeroed = True


class EmformerWithinAudio(nn.Module):
    """The same with the last frames of the audio as its last right context: that many fewer frames come out."""

    def __init__(self) -> None:
        super().__init__()
        self.emformer = Emformer()
        self.reach = self.emformer.reach

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (output [B, T, D], lengths) of frames [B, T, D]."""
        return self.emformer.model(frames, (lengths - self.emformer.right).clamp(min=0))
