"""SpeechModel: waveform -> frames -> hidden -> logits, offline and streaming.

serialization.py has the format of the directory that it is saved in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from speechattn.dtypes import like
from speechattn.encoder.baselines import build_encoder
from speechattn.encoder.encoder import EncoderState
from speechattn.encoder.frames_encoder import FramesEncoder
from speechattn.errors import UserError
from speechattn.frontend.factory import build_frontend
from speechattn.frontend.logmel import FrontendState, LogMel
from speechattn.frontend.normalize import Normalize
from speechattn.frontend.waveform_checks import check_waveform
from speechattn.model_config import ModelConfig
from speechattn.models.factories import BlockFactory, Part, make_encoder, make_part
from speechattn.models.heads import CTC, FrameClassifier, UtteranceClassifier
from speechattn.models.own_parts import OWN_BLOCKS, PARTS
from speechattn.models.serialization import differing_weights, read_model, write_model
from speechattn.receptive_field import describe
from speechattn.stream_state import fingerprint, map_tensors, num_bytes


@dataclass(frozen=True)
class ModelState:
    """The state of a stream between two calls of `SpeechModel.step`; `model` names the config that it belongs to."""

    model: str
    frontend: FrontendState
    encoder: EncoderState

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return num_bytes(self)

    def to(self, *args: Any, **kwargs: Any) -> ModelState:
        """Return the state with every tensor moved, as by `Tensor.to`."""
        moved: ModelState = map_tensors(lambda x: x.to(*args, **kwargs), self)
        return moved


def _build_head(config: ModelConfig) -> nn.Module:
    """Return the head that a config describes."""
    d_model, num_classes = config.encoder.d_model, len(config.classes)
    if config.head == "utterance":
        return UtteranceClassifier(d_model, num_classes, config.pooling, config.pooling_queries)
    return (CTC if config.head == "ctc" else FrameClassifier)(d_model, num_classes)


class SpeechModel(nn.Module):
    """Frontend, normalisation, encoder and head, which `ModelConfig.head` chooses.

    "frames" is a frame classifier and "ctc" CTC, both with logits [B, T, C]; "utterance" has one label for a whole
    recording, logits [B, C], and no stream.

    A stream gives the same logits: `step` returns those of a frame as soon as all samples that it depends on have
    arrived, and `flush` returns the pending ones. `sa.Stream(model)` returns labels with their times.

    Frontend and normalisation compute in float32, or in float64 in a float64 model; then frames are cast to the dtype
    of the encoder, half precision too. Waveforms are float32 or float64 in any model.

    Examples:
        >>> import torch
        >>> from speechattn import EncoderConfig
        >>> config = ModelConfig(("SIL", "AA"), EncoderConfig(input_dim=40, d_model=16, num_layers=1), num_mels=40)
        >>> logits, lengths = SpeechModel(config)(torch.zeros(1, 16_000))
        >>> logits.shape, lengths.tolist()
        (torch.Size([1, 100, 2]), [100])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = build_frontend(
            config.features, config.num_mels, config.framing, config.flavor, config.num_ceps, config.deltas
        )
        self.normalize = Normalize(config.num_features)
        self.encoder = build_encoder(config.encoder)
        self.encoder.hop_ms = config.framing.hop_ms
        self.head = _build_head(config)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, C] and frame lengths [B] of waveforms [B, N] with `lengths` [B] in samples.

        With ``head="utterance"`` logits are [B, C]; lengths are those of the frames in any case.
        """
        return self.classify(*self.frontend(self._cast(waveform), lengths))

    def classify(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, C] and lengths [B] of frames [B, T, F]: `forward` without the frontend."""
        frames = self.normalize(frames, lengths).to(like(self.encoder).dtype)
        hidden, lengths = self.encoder(frames, lengths)
        return self.head(hidden, lengths), lengths

    def initial_state(self, batch_size: int = 1) -> ModelState:
        """Return the state of `batch_size` streams in lock-step before their first sample.

        Raises:
            ValueError: the head labels whole utterances; frames are centred, or a layer's right context is unlimited,
                or it does not stream at all; or a module of your own has no methods to stream with.
        """
        if self.config.head == "utterance":
            raise ValueError(
                'a model with head="utterance" cannot stream, an utterance has one label: model(waveform) gives it for '
                "a whole recording."
            )
        for part in (self.frontend, self.encoder):
            if isinstance(part, FramesEncoder):  # which says by itself what cannot stream
                continue
            missing = [name for name in ("initial_state", "step", "flush") if not hasattr(part, name)]
            if missing:
                raise ValueError(
                    f"{type(part).__name__} cannot stream, it has no {', '.join(missing)}: model(waveform) computes a "
                    "whole recording."
                )
        frontend, encoder = self.frontend.initial_state(batch_size), self.encoder.initial_state(batch_size)  # type: ignore[operator]
        return ModelState(fingerprint(self.config), frontend, encoder)

    def step(self, waveform: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Return the logits [B, m, C] that are ready after the next samples [B, n], n >= 0, and the new state.

        The old state is not changed. No gradient flows.

        Raises:
            TypeError, ValueError, UserError: the waveform is not [B, n] of samples, or the state belongs to
                another model.
        """
        frames, frontend = self.frontend.step(self._cast(waveform), self._checked(state).frontend)
        return self._follow(frames, replace(state, frontend=frontend))

    def flush(self, state: ModelState) -> Tensor:
        """Return the pending logits [B, m, C] at the end of the audio; an incomplete frame has none."""
        frames = self.frontend.flush(self._checked(state).frontend)
        logits, state = self._follow(frames, state)
        with torch.no_grad():
            return torch.cat((logits, self.head(self.encoder.flush(state.encoder))), 1)  # type: ignore[operator]

    @torch.no_grad()
    def _follow(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Return the logits of the next frames, and the new state."""
        frames = self.normalize(frames).to(like(self.encoder).dtype)
        hidden, encoder = self.encoder.step(frames, state.encoder)  # type: ignore[operator]
        return self.head(hidden), replace(state, encoder=encoder)

    if not TYPE_CHECKING:  # a type checker would take every name

        def __getattr__(self, name: str) -> Any:
            if name == "stream":
                raise AttributeError("SpeechModel has no attribute 'stream': use sa.Stream(model).")
            return super().__getattr__(name)

    def _cast(self, waveform: Tensor) -> Tensor:
        """Return a waveform in the dtype of the frontend, which is float32 in a half precision model."""
        if not isinstance(self.frontend, LogMel):  # one of your own knows what it takes
            return waveform
        check_waveform(waveform)
        return waveform.to(self.frontend.filterbank.dtype)

    def _checked(self, state: ModelState) -> ModelState:
        if not isinstance(state, ModelState):
            raise TypeError(f"state must come from initial_state or step of a model, got {type(state).__name__}.")
        if state.model != fingerprint(self.config):
            raise ValueError(
                f"the state belongs to a model with another config or version ({state.model}, this one is "
                f"{fingerprint(self.config)}): begin with model.initial_state(batch_size)."
            )
        return state

    @property
    def is_described(self) -> bool:
        """True if the encoder is the one of the config, so that its context and latency are known."""
        own_blocks = getattr(self.encoder, "has_own_blocks", False)
        return not own_blocks and getattr(self.encoder, "config", None) == self.config.encoder

    def describe(self) -> str:
        """Return a table of what is seen back, waited for and kept, from the frontend to the logits."""
        if not self.is_described:
            return (
                f"encoder {type(self.encoder).__name__}: a module of your own; what it sees and waits for is not known."
            )
        return describe(self.config.contexts, self.config.framing.hop_ms, self.config.context_names)

    def save(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors into `directory`, each under another name first, then renamed.

        The classes of modules of your own, such as another encoder, or of a subclass are written as well: `load` needs
        them. So are those of parts with other settings than the config's, as ``LogMel(80, low_hz=100.0)``.

        Raises:
            UserError: layers are quantised, and hold packed weights that are no tensors; or a tensor is in no part.
        """
        with torch.random.fork_rng(devices=[]):  # built, for tensors without memory cost seconds of imports
            usual = SpeechModel(self.config)
        write_model(Path(directory), self, self.config, usual)


def load(
    directory: str | Path,
    *,
    frontend: Part | None = None,
    normalize: Part | None = None,
    encoder: Part | None = None,
    head: Part | None = None,
    block: BlockFactory | None = None,
    model_class: type[SpeechModel] | None = None,
) -> SpeechModel:
    """Return the model that `SpeechModel.save` wrote, in evaluation mode, on the CPU, in the dtypes of its weights.

    Args:
        directory: the folder.
        frontend: a module of your own in place of the one that the config describes, as it was in the model that was
            saved; or what returns it for the ModelConfig. Its weights are read from the folder.
        normalize: the same for the normalisation.
        encoder: the same for the encoder; what returns it gets the EncoderConfig.
        head: the same for the head; what returns it gets d_model and the number of classes.
        block: what returns a block of your own for an EncoderConfig and a Context, if the usual encoder was saved with
            such blocks.
        model_class: a subclass of SpeechModel that is built, ``model_class(config)``; needed if one was saved.

    Raises:
        UserError: a file is missing, damaged, of another format version, or does not fit its config; or the model was
            saved with a module or a class of your own, and it is not given.
    """
    directory = Path(directory)
    saved = read_model(directory)
    given = dict(zip(PARTS, (frontend, normalize, encoder, head), strict=True))
    if model_class is None and saved.model_class:
        name = saved.model_class.rpartition(".")[2]
        raise UserError(
            f"{directory} was saved from {saved.model_class}, a subclass of SpeechModel: import it and load with "
            f"sa.load({str(directory)!r}, model_class={name})."
        )
    given["encoder"] = make_encoder(saved.config, encoder, block)
    if model_class is None and (lost := [name for name in saved.own if given.get(name) is None]):
        arguments = ", ".join("block=..." if OWN_BLOCKS in saved.own[name] else f"{name}=..." for name in lost)
        raise UserError(
            f"{directory} was saved with a module of your own, {lost[0]} = {saved.own[lost[0]]}, which its config does "
            f"not describe: build it and load with sa.load({str(directory)!r}, {arguments})."
        )
    model = (model_class or SpeechModel)(saved.config)
    for name, part in given.items():
        if part is not None:
            setattr(model, name, make_part(name, part, saved.config))
    if differences := differing_weights(model.state_dict(), saved.tensors):
        raise UserError(f"{directory / 'model.safetensors'} does not hold this model's weights: {differences}")
    for name, tensor in model.state_dict(keep_vars=True).items():
        tensor.data = tensor.data.to(saved.tensors[name].dtype)
    if frontend is None:  # its constants are not saved: they follow the frames' mean
        model.frontend.to(like(model.normalize).dtype)
    model.load_state_dict(saved.tensors)
    return model.eval()
