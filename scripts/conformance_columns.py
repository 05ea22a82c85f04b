"""What `conformance_table.py` compares: columns of ours and of peers, how each is set up, and why what fails fails.

A `why` is printed beside a failure that was measured, never instead of one; where nothing fails nothing is printed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import conformance_peers as peers
import torch

import speechattn as sa
from speechattn.conformance.results import Findings
from speechattn.conformance.suite import check_attention, check_encoder

NOTHING_TIMES_NAN = (
    "Padded keys get the weight 0, and 0 times what they hold is NaN: put zeros into the padding before the call."
)
NO_ELEMENTS = "A reshape or a loop takes for granted that there is something."


@dataclass(frozen=True)
class Column:
    """One implementation: its title, how it is set up, the check, and what is known about its failures."""

    title: str
    setting: str
    check: Callable[[str], Findings]
    package: str = ""
    why: Mapping[str, str] = field(default_factory=dict)

    def findings(self) -> Findings:
        """Return the findings of the suite, or that the package cannot be imported."""
        try:
            if self.package:
                importlib.import_module(self.package.replace("-", "_"))
        except (ImportError, OSError, RuntimeError):  # a torchaudio built for another torch raises the last two
            return Findings(self.title, absent=f"not installed: pip install {self.package}")
        return self.check(self.title)

    def described(self) -> str:
        """Return a line for the list below the table."""
        try:
            installed = f"{self.package} {version(self.package)}: " if self.package else ""
        except ImportError:
            installed = f"{self.package}, not installed: "
        return f"- **{self.title}**: {installed}{self.setting}"


def ours(title: str, setting: str = "", dtype: torch.dtype = torch.float64, **config: Any) -> Column:
    """Return a small encoder of speechattn with two layers."""

    def check(name: str) -> Findings:
        torch.manual_seed(0)
        sizes = {"input_dim": 8, "d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 32}
        encoder = sa.build_encoder(sa.EncoderConfig(**sizes | config))
        if config.get("activation") == "relu":  # scores that are negative everywhere would hide what is seen
            for which, parameter in encoder.named_parameters():
                if which.endswith("query_key_value.bias"):
                    torch.nn.init.constant_(parameter, 3.0)
        return check_encoder(encoder, features=8, name=name, dtype=dtype)

    return Column(title, setting, check)


def our_attention(title: str, context: sa.Context, backend: str) -> Column:
    """`sa.attention` in one backend."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return sa.attention(q, k, v, context, lengths=lengths, backend=backend)

    return Column(
        title,
        f'`sa.attention(backend="{backend}")`, {context}',
        lambda name: check_attention(attend, context, name=name),
    )


def peer(
    title: str, package: str, setting: str, build: Callable[[], Any], why: Mapping[str, str], **given: Any
) -> Column:
    """Return an encoder of another package."""
    return Column(title, setting, lambda name: check_encoder(build(), peers.WIDTH, name=name, **given), package, why)


TRUNCATED, CHUNKED = sa.Context.truncated(left=8, right=4), sa.Context.chunked(4, left=8, right=2)
CAUSAL, BOTH_SIDES = sa.Context.causal(8), sa.Context.truncated(6, 6)

LOCAL_WHY = {"padding values": NOTHING_TIMES_NAN, "padding gradients": NOTHING_TIMES_NAN, "no frames": NO_ELEMENTS}
LONGFORMER_WHY = LOCAL_WHY | {
    "padding gradients": f"{NOTHING_TIMES_NAN} 1e30 overflows in the scores of padded queries, whose weights become 0 "
    "only after the softmax, so that its gradient is NaN; 1e15 passes."
}
EMFORMER_WHY = {
    "padding values": "The right context of a row's last segments is read from behind the row's end. Zeros there, with "
    'which torchaudio\'s RNN-T pipeline ends its audio, are the remedy: see "Emformer, zeros in the padding".',
    "fixed width": "The padding mask takes the longest length for the width of the batch: when every row is padded, it "
    "masks nothing. Cut the batch to its longest row.",
    "no frames": NO_ELEMENTS,
    "stream end": "`infer` takes whole segments only, and a single row has no padding mask, so that the zeros which "
    "fill up the last segment are attended to. For lengths that are multiples of the segment it passes.",
    "stream purity": "`infer` writes the new caches into the lists it was given. With `copy.deepcopy(states)` before "
    "each call it passes.",
}
EMFORMER_WHY["padding gradients"] = EMFORMER_WHY["padding values"]
EMFORMER_SETTING = "2 layers, segment_length=4, left_context_length=8, right_context_length=2, no memory bank"
FLOAT32: dict[str, Any] = {"dtype": torch.float32}
EMFORMER = FLOAT32 | {"granularity": 4}

MAIN = [
    ours("speechattn transformer", f"`sa.Encoder`, 2 layers, each {TRUNCATED}, relative positions", context=TRUNCATED),
    ours(
        "speechattn conformer",
        f'`sa.Encoder(block="conformer")`, 2 layers, each {CHUNKED}, convolutions of 5 taps, 1 in the future',
        context=CHUNKED,
        block="conformer",
        conv_kernel=5,
        conv_lookahead=1,
    ),
    our_attention("speechattn attention", TRUNCATED, "banded"),
    Column(
        "local-attention",
        f"`LocalAttention(window_size=4, look_backward=2, look_forward=1, exact_windowsize=True, autopad=True)`, "
        f"{TRUNCATED}",
        lambda name: check_attention(
            peers.local_attention(window_size=4, look_backward=2, look_forward=1), TRUNCATED, name=name
        ),
        "local-attention",
        LOCAL_WHY,
    ),
    peer(
        "Longformer",
        "transformers",
        f"`LongformerSelfAttention`, attention_window=12, {BOTH_SIDES}",
        lambda: peers.LongformerAttention(6),
        LONGFORMER_WHY,
        reach=BOTH_SIDES,
        **FLOAT32,
    ),
    peer(
        "Emformer",
        "torchaudio",
        f"{EMFORMER_SETTING}; zeros after the audio; streamed through `infer`, 4 frames a push",
        peers.Emformer,
        EMFORMER_WHY,
        **EMFORMER,
    ),
]
ROTARY = "One call after another rotates the keys in the cache once more; from the third frame on they are off."
PEERS = [
    peer(
        "LocalMHA",
        "local-attention",
        f"`LocalMHA(window_size=8, causal=True, exact_windowsize=True)`, rotary positions as by default, {CAUSAL}; "
        "streamed through its `cache`, a frame a call",
        lambda: peers.LocalMHA(window_size=8),
        LOCAL_WHY | {"stream": ROTARY, "stream end": ROTARY},
        reach=CAUSAL,
    ),
    peer(
        "LocalMHA, no positions",
        "local-attention",
        "the same with use_rotary_pos_emb=False",
        lambda: peers.LocalMHA(window_size=8, use_rotary_pos_emb=False),
        LOCAL_WHY,
        reach=CAUSAL,
    ),
    peer(
        "LongformerModel",
        "transformers",
        f"2 layers, each {BOTH_SIDES}, frames as inputs_embeds",
        lambda: peers.Longformer(6, 2),
        LONGFORMER_WHY
        | {"padding values": f"{NOTHING_TIMES_NAN} 1e30 overflows in float32 before the second layer; 1e15 passes."},
        reach=[BOTH_SIDES] * 2,
        **FLOAT32,
    ),
    peer(
        "Emformer, zeros in the padding",
        "torchaudio",
        "as above, and the caller puts zeros into the padding",
        peers.EmformerZeroed,
        EMFORMER_WHY,
        **EMFORMER,
    ),
    peer(
        "Emformer, right context from the audio",
        "torchaudio",
        "as above, but the last 2 frames of each row are its last right context, and have no output",
        peers.EmformerWithinAudio,
        EMFORMER_WHY
        | {
            "neighbours": "In a batch the right context of a row's last segment is taken from behind a whole segment, "
            "alone from the end of the row. Zeros after the audio, as above, are the remedy.",
            "padding amount": 'See "neighbours".',
            "short audio": "Audio shorter than the right context has no segment.",
        },
        **EMFORMER,
    ),
]
OURS = [
    *(
        our_attention(f"attention, {backend}, {context}", context, backend)
        for context in (TRUNCATED, CHUNKED, sa.Context.causal(), sa.Context.full())
        for backend in ("dense", "banded")
    ),
    *(
        ours(
            f"encoder, {positions} positions, {TRUNCATED}",
            context=TRUNCATED,
            position_encoding="none" if positions == "no" else positions,
        )
        for positions in ("no", "sinusoidal", "learned", "rotary", "relative", "alibi")
    ),
    ours(f"encoder, {CHUNKED}", context=CHUNKED),
    ours(
        "encoder, left 4, right 4, then left 6, chunk 5", context=(sa.Context.truncated(4, 4), sa.Context.chunked(5, 6))
    ),
    ours(f"encoder, {sa.Context.causal()}", context=sa.Context.causal()),
    ours("encoder, full", context=sa.Context.full()),
    ours(f"encoder, scores relu, {TRUNCATED}", context=TRUNCATED, activation="relu"),
    ours(f"encoder, 2 frames stacked, {TRUNCATED}", context=TRUNCATED, stack=2),
    ours(f"encoder, in float32, {TRUNCATED}", dtype=torch.float32, context=TRUNCATED),
    ours(f"conformer, causal convolutions of 5 taps, {TRUNCATED}", context=TRUNCATED, block="conformer", conv_kernel=5),
    ours("CNN of 5 taps, 1 in the future", block="cnn", conv_kernel=5, conv_lookahead=1),
    ours("bidirectional GRU", block="bigru"),
    ours("MLP on 3 + 1 + 2 frames", block="mlp", splice=sa.Context.truncated(3, 2)),
    ours("one linear layer", block="linear"),
]
