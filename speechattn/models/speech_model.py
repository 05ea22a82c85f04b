"""SpeechModel: waveform -> frames -> hidden -> logits, and the directory it is saved in.

A saved model is `config.json` and `model.safetensors`, with a format version; loading it never runs code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from speechattn import context as law
from speechattn.attention.positions import RESIZE
from speechattn.config import EncoderConfig, ModelConfig
from speechattn.dtypes import like, packed_entry
from speechattn.encoder.baselines import build_encoder
from speechattn.encoder.encoder import EncoderState, FramesEncoder
from speechattn.encoder.input import Entry
from speechattn.errors import UserError, reason
from speechattn.frontend.factory import build_frontend
from speechattn.frontend.logmel import FrontendState, LogMel
from speechattn.frontend.normalize import Normalize
from speechattn.frontend.waveform_checks import check_waveform
from speechattn.models.heads import CTC, FrameClassifier
from speechattn.stream_state import fingerprint, moved, num_bytes
from speechattn.system.atomic_files import write_bytes, write_json

FORMAT_VERSION = 1
PARTS = ("frontend", "normalize", "encoder", "head")
NAMED = 3
"""Tensors or settings that a message names; of the others it gives the number."""
UNCOUNTED = ("training", "backend", "slab_frames", "hop_ms")
"""Attributes of parts that change no logits of a model in evaluation mode."""


@dataclass(frozen=True)
class ModelState:
    """What a stream keeps of a whole model between two calls of `SpeechModel.step`. `model` names its config."""

    model: str
    frontend: FrontendState
    encoder: EncoderState

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return num_bytes(self.frontend) + self.encoder.num_bytes

    def to(self, *args: Any, **kwargs: Any) -> ModelState:
        """The state with every tensor moved, as by `Tensor.to`."""
        frontend = moved(self.frontend, *args, **kwargs)
        return replace(self, frontend=frontend, encoder=self.encoder.to(*args, **kwargs))


class SpeechModel(nn.Module):
    """Frontend, normalisation, encoder and head: a frame classifier, or with ``ModelConfig(head="ctc")`` CTC.

    A stream gives the same logits: each frame's come out of `step` as soon as all that it hears has come in, and
    `flush` gives those still owed. `stream()` is that for people: labels with their times.

    Frontend and normalisation compute in float32, or in float64 in a float64 model; behind them frames are cast to the
    dtype of the encoder, half precision too. Waveforms are float32 or float64 in any model.

    Example:
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
        self.head = (CTC if config.head == "ctc" else FrameClassifier)(config.encoder.d_model, len(config.classes))

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, T, C] and frame lengths [B] of waveforms [B, N] with `lengths` [B] in samples."""
        return self.classify(*self.frontend(self._cast(waveform), lengths))

    def classify(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, T, C] and lengths [B] of frames [B, T, F]: `forward` behind the frontend."""
        frames = self.normalize(frames, lengths).to(like(self.encoder).dtype)
        hidden, lengths = self.encoder(frames, lengths)
        return self.head(hidden, lengths), lengths

    def initial_state(self, batch_size: int = 1) -> ModelState:
        """The state of `batch_size` streams in lock-step that have not begun.

        Raises:
            ValueError: frames are centred, or a layer sees the future without limit, or does not stream at all; or a
                module of your own has no methods to stream with.
        """
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
        """The logits [B, m, C] that have become ready after the next samples [B, n], n >= 0, and the new state.

        The old state is left as it was. No gradient flows.

        Raises:
            TypeError, ValueError, UserError: the waveform is not [B, n] of samples, or the state belongs to
                another model.
        """
        frames, frontend = self.frontend.step(self._cast(waveform), self._checked(state).frontend)
        return self._follow(frames, replace(state, frontend=frontend))

    def flush(self, state: ModelState) -> Tensor:
        """The logits [B, m, C] still owed when no more samples will come: a part of a frame has none."""
        frames = self.frontend.flush(self._checked(state).frontend)
        logits, state = self._follow(frames, state)
        with torch.no_grad():
            return torch.cat((logits, self.head(self.encoder.flush(state.encoder))), 1)  # type: ignore[operator]

    @torch.no_grad()
    def _follow(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Logits of the next frames, and the state behind them."""
        frames = self.normalize(frames).to(like(self.encoder).dtype)
        hidden, encoder = self.encoder.step(frames, state.encoder)  # type: ignore[operator]
        return self.head(hidden), replace(state, encoder=encoder)

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
        """True if the encoder is the one of the config, which tells what it sees and waits for."""
        return getattr(self.encoder, "config", None) == self.config.encoder

    def describe(self) -> str:
        """What is seen back, waited for and kept from the frontend to the logits, in frames and ms."""
        if not self.is_described:
            return (
                f"encoder {type(self.encoder).__name__}: a module of your own; what it sees and waits for is not known."
            )
        return law.describe(self.config.contexts, self.config.framing.hop_ms, self.config.context_names)

    def save(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors into `directory`, each aside first and then renamed.

        The names of modules of your own, such as another encoder, are written as well: `load` needs them. So are those
        of parts with other settings than the config's, as ``LogMel(80, low_hz=100.0)``.

        Raises:
            UserError: layers are quantised, and hold packed weights that are no tensors; or a tensor is in no part.
        """
        if (name := packed_entry(self)) is not None:
            raise UserError(
                f"a quantised model cannot be saved ({name} is no tensor): save the float model, and quantise again "
                "what load returns."
            )
        state = self.state_dict()
        if foreign := [name for name in state if name.split(".")[0] not in PARTS]:
            raise UserError(
                f"{foreign[0]} is in none of the parts that are saved ({', '.join(PARTS)}): put it into one of them, "
                "or save model.state_dict() with torch.save."
            )
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        # Copies: safetensors refuses tensors that share memory, as tied weights do.
        tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
        config = {"format_version": FORMAT_VERSION, "model": self.config.to_dict()}
        if own := self._own_parts():
            config["own"] = own
        write_bytes(directory / "model.safetensors", to_bytes(tensors))
        write_json(directory / "config.json", config)

    def _own_parts(self) -> dict[str, str]:
        """Parts that are not what the config describes, each with its class and the settings that differ."""
        with torch.random.fork_rng(devices=[]):  # built, for tensors without memory cost seconds of imports
            usual = SpeechModel(self.config)
        own = {}
        for name in PARTS:
            part, described = getattr(self, name), getattr(usual, name)
            kind = f"{type(part).__module__}.{type(part).__qualname__}"
            if _structure(part) != _structure(described):
                own[name] = kind
            elif changed := changed_settings(part, described):
                own[name] = f"{kind} with {_listed(changed)}"
        return own


def load(
    directory: str | Path,
    *,
    frontend: nn.Module | None = None,
    normalize: nn.Module | None = None,
    encoder: nn.Module | None = None,
    head: nn.Module | None = None,
) -> SpeechModel:
    """The model that `SpeechModel.save` wrote, in evaluation mode, on the CPU, in the dtypes that it was saved in.

    Args:
        directory: the folder.
        frontend, normalize, encoder, head: modules of your own in place of those that the config describes, as they
            were in the model that was saved. Their weights are read from the folder.

    Raises:
        UserError: a file is missing, damaged, of another format version, or does not fit its config; or the model was
            saved with a module of your own, and it is not given.
    """
    directory = Path(directory)
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise UserError(
                f"{directory} is not a saved model: {name} is missing. A training run writes one in its model/."
            )
    try:
        data = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        version, own = data["format_version"], dict(data.get("own", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{directory / 'config.json'} is not a model's config: {error}.") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{directory} has format version {version}; this speechattn reads version {FORMAT_VERSION}.")
    given = dict(zip(PARTS, (frontend, normalize, encoder, head), strict=True))
    if lost := [name for name in own if given.get(name) is None]:
        arguments = ", ".join(f"{name}=..." for name in lost)
        raise UserError(
            f"{directory} was saved with a module of your own, {lost[0]} = {own[lost[0]]}, which its config does not "
            f"describe: build it and load with sa.load({str(directory)!r}, {arguments})."
        )
    model = SpeechModel(ModelConfig.from_dict(data.get("model")))
    for name, part in given.items():
        if part is not None:
            setattr(model, name, part)
    weights = directory / "model.safetensors"
    try:
        tensors = from_bytes(weights.read_bytes())
    except SafetensorError as error:
        raise UserError(f"{weights} does not hold this model's weights: {reason(error)}") from error
    if differences := differing_weights(model.state_dict(), tensors):
        raise UserError(f"{weights} does not hold this model's weights: {differences}")
    for name, tensor in model.state_dict(keep_vars=True).items():
        tensor.data = tensor.data.to(tensors[name].dtype)
    if frontend is None:  # its constants are not saved: they follow the frames' mean
        model.frontend.to(like(model.normalize).dtype)
    model.load_state_dict(tensors)
    return model.eval()


def differing_weights(wanted: Mapping[str, Any], found: Mapping[str, Tensor]) -> str:
    """Return which tensors are of another shape, missing or unknown, as one line; "" if all fit."""
    shapes = {name: list(getattr(value, "shape", ())) for name, value in wanted.items()}
    other = [name for name in shapes if name in found and list(found[name].shape) != shapes[name]]
    findings = {
        "of another shape": [f"{name} {list(found[name].shape)} for {shapes[name]}" for name in other],
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
    }
    lines = []
    for what, names in findings.items():
        if names:
            lines.append(f"{len(names)} {what}: {_listed(names)}")
    advice = f" {RESIZE}" if any(name.endswith("relative_bias.table") for name in other) else ""
    return f"{'; '.join(lines)}.{advice}" if lines else ""


def changed_settings(module: nn.Module, usual: nn.Module) -> list[str]:
    """Return what differs in the settings of two modules of one structure, as "name=value".

    Settings are public attributes, and constants that are not saved, such as a filterbank.
    """
    changed = []
    for (path, part), other in zip(module.named_modules(), usual.modules(), strict=True):
        prefix = f"{path}." if path else ""
        if isinstance(part, nn.Dropout):
            continue
        mine, theirs = vars(part), vars(other)
        replaced = [name for name in mine if hasattr(type(part), name)]  # a method of this one object, perhaps
        for name in dict.fromkeys([*theirs, *replaced]):
            if name.startswith("_") or name in UNCOUNTED:
                continue
            if name not in mine or name not in theirs or not _same_setting(mine[name], theirs[name]):
                changed.append(f"{prefix}{name}={mine.get(name)!r}")
    saved, constants = module.state_dict(), dict(usual.named_buffers())
    for name, tensor in module.named_buffers():
        if name not in saved and not (name in constants and _same_constant(tensor, constants[name])):
            changed.append(f"another {name}")
    return changed


def _same_setting(mine: Any, theirs: Any) -> bool:
    """Return whether two values of an attribute give the same logits."""
    if isinstance(mine, Entry) and isinstance(theirs, Entry):
        return _same_setting(mine.config, theirs.config)
    if isinstance(mine, EncoderConfig) and isinstance(theirs, EncoderConfig):
        rest: dict[str, Any] = {"backend": "auto", "gradient_checkpointing": False}
        rest |= {"dropout": 0.0, "layer_dropout": 0.0}
        return replace(mine, **rest) == replace(theirs, **rest)
    return bool(mine == theirs)


def _same_constant(mine: Tensor, theirs: Tensor) -> bool:
    """Return whether constants are equal but for the rounding of float32, on any device."""
    if mine.shape != theirs.shape:
        return False
    # Each is computed in the dtype of its model; 1e-4 is far above float32's rounding and below any other filterbank.
    mine, theirs = mine.detach().cpu().double(), theirs.detach().cpu().double()
    return torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def _listed(names: list[str]) -> str:
    """Return the first few of some names, and the number of the others."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _structure(module: nn.Module) -> tuple[list[Any], dict[str, Any]]:
    """What decides whether the weights of one module are those of another, and give the same."""
    state = {name: getattr(value, "shape", None) for name, value in module.state_dict().items()}
    return [(name, type(part)) for name, part in module.named_modules()], state
