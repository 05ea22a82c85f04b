"""A server's thread goes on when the main thread has returned, and native attention shared its work through a pool.

The interpreter closes every pool as soon as the main thread ends: "cannot schedule new futures", forward and backward.
"""

import subprocess
import sys
import threading
from typing import Any

import pytest

from speechattn.attention.native import launch

AFTER_MAIN = """
import sys, threading
import torch  # registers a function for the interpreter's end, and so must be there before

def compute():
    import speechattn as sa
    from speechattn.attention.native import launch
    launch.ONE_THREAD = 0
    torch.set_num_threads(2)
    frames = torch.randn(2, 700, 40)
    for block in ("transformer", "conformer"):
        config = sa.EncoderConfig(40, d_model=32, num_layers=1, block=block, context=sa.Context(8, 8))
        encoder = sa.Encoder(config)
        encoder(frames)[0].sum().backward()
        assert all(parameter.grad is not None for parameter in encoder.parameters())
        encoder.eval()
        part, state = encoder.step(frames, encoder.initial_state(2))
        streamed = torch.cat((part, encoder.flush(state)), 1)
        with torch.no_grad():
            torch.testing.assert_close(streamed, encoder(frames)[0], atol=1e-4, rtol=1e-4)
    stream = sa.Stream(sa.load_pretrained("small-en-phones"))
    labels = len(stream.push(torch.zeros(16_000)).labels) + len(stream.flush().labels)
    rows = sum(len(rows) for rows in sa.encode_long(encoder, frames[0], progress=False))
    print(labels, rows, flush=True)

def serve():
    threading.main_thread().join()
    compute()
    daemon = threading.Thread(target=compute, daemon=True)
    daemon.start()
    daemon.join()
    print(threading.active_count() - 1)  # the main thread counts although it has ended

threading.Thread(target=serve).start()
"""


def test_threads_that_outlive_the_main_thread_compute_forward_backward_and_streams() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_MAIN], capture_output=True, text=True, timeout=300)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split() == ["100", "700", "100", "700", "1"]


@pytest.mark.parametrize("number", [2, 7, 100])
def test_every_piece_is_computed_once_and_no_thread_stays(number: Any) -> None:
    calls: list[Any] = []
    before = threading.active_count()
    launch.run_tasks(lambda first, last: calls.extend(range(first, last)), number, 3, None)
    assert sorted(calls) == list(range(number))
    assert threading.active_count() == before


def test_where_no_thread_can_be_started_the_caller_computes_every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    calls: list[Any] = []
    launch.run_tasks(lambda first, last: calls.extend(range(first, last)), 100, 3, None)
    assert sorted(calls) == list(range(100))


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_an_error_in_any_thread_reaches_the_caller_and_ends_the_others(raised: Any) -> None:
    caller, first = threading.get_ident(), threading.Event()

    def piece(first_index: Any, last_index: Any) -> None:
        if threading.get_ident() != caller:
            first.set()
            raise raised("from a helper")
        assert first.wait(60)

    before = threading.active_count()
    with pytest.raises(raised, match="from a helper"):
        launch.run_tasks(piece, 100, 2, None)
    assert threading.active_count() == before
