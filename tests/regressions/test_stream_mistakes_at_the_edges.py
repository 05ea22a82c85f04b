"""Small holes at the ends of a stream.

`speechattn stream -` took 2 s of what waited in the pipe when it got a signal, where the pipe may hold 32 s; with
its stdout closed every command ended in a traceback; `Encoder.flush` of a foreign state was an AttributeError; and
`encode_long` resampled from rates that are none: 0 Hz divided by zero, True was 1 Hz and a thousand hours of rows.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from speechattn.cli import main as cli
from speechattn.cli.stream import make_room
from speechattn.cli.stream_runner import _from_stdin
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.long_form import encode_long
from speechattn.system.stop_signal import StopSignal

ENCODER = EncoderConfig(12, d_model=8, num_heads=1, num_layers=1, context=Context.truncated(5, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="other pipes cannot be made larger")
def test_what_waits_in_the_pipe_at_a_signal_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as ours:
        monkeypatch.setattr(sys, "stdin", stdin)
        make_room()
        samples = np.arange(200_000).astype("<i2")
        if fcntl.fcntl(stdin, fcntl.F_GETPIPE_SZ) < samples.nbytes:
            pytest.skip("this system keeps pipes small")
        assert ours.write(samples.tobytes()) == samples.nbytes
        stop = StopSignal()
        stop.received = 2
        assert np.array_equal(np.concatenate(list(_from_stdin(stop))), samples)


def test_a_command_whose_stdout_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["stream", str(tmp_path / "none.wav")]) == 2
    monkeypatch.setattr(cli, "_run", lambda *_: 0)
    assert cli.main(["doctor"]) == 0


@pytest.mark.parametrize("state", [None, (), "model"])
def test_an_encoder_says_what_state_it_wants(state: object) -> None:
    encoder = Encoder(ENCODER).eval()
    if state == "model":
        state = SpeechModel(ModelConfig(("A", "B"), ENCODER, 12)).initial_state()
    for method in (lambda: encoder.flush(state), lambda: encoder.step(encoder.norm.weight.new_zeros(1, 5, 12), state)):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="state must come from initial_state or step, got "):
            method()


@pytest.mark.parametrize("rate", [0, -8000, 5, True, 22_050.5, 10**9])
def test_a_rate_that_is_none(rate: object) -> None:
    model = SpeechModel(ModelConfig(("A", "B"), ENCODER, 12)).eval()
    with pytest.raises(ValueError, match=r"sample_rate must be a whole 1000 to 768000 Hz, got "):
        encode_long(model, np.zeros(16_000, np.float32), sample_rate=rate, progress=False)  # type: ignore[call-overload]
