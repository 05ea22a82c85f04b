"""Several processes equal one: losses and weights, stops and resumes, and the end of all when one dies."""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from small_runs import config_of, example, new_model, run

from speechattn.errors import UserError, reason
from speechattn.system.stop_signal import Interrupted, StopSignal
from speechattn.training import loop
from speechattn.training.batch_parts import own_rows
from speechattn.training.checkpoint import load_checkpoint
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.distributed import STEP_TIMEOUT_S, Ranks, choose_device, lost_rank_as_one_line, process_group

EXACT: dict[str, Any] = {"dropout": 0.0, "epochs": 7, "batch_frames": 300, "augment": True}
"""Settings with which the number of ranks changes nothing, and of which a batch has one to seven rows."""


def examples() -> list[Example]:
    """Utterances of 6 to 339 frames, in float64."""
    return [example(i, 6 + 37 * i, torch.float64) for i in range(10)]


def train_rank(folder: Path, config: TrainConfig, stop_after: int = 0, timeout_s: float = STEP_TIMEOUT_S) -> None:
    """Train as one rank, whose place is in the environment; write weights, and the message of an error."""
    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    try:
        with (
            process_group("cpu", timeout_s) as ranks,
            StopSignal() as stop,
            lost_rank_as_one_line(ranks, stop),
            patch.object(loop, "RECORD_EVERY", 1),
        ):
            # A signal that only the last rank receives ends all of them.
            stop_after = stop_after if ranks.rank == ranks.size - 1 else 0
            model = new_model(config).double()
            run(examples(), config, folder, stop_after, ranks=ranks, model=model)
            if ranks.is_main:
                model.save(folder / "model")
    except Interrupted as interruption:
        raise SystemExit(interruption.exit_code) from None
    except UserError as error:
        (folder / f"error-{rank}").write_text(reason(error))
        raise SystemExit(2) from None


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes forked from one that has imported torch start in half a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torch", "torch._dynamo", "speechattn.training.loop"])
    return context


def start(context: ForkServerContext, size: int, target: Callable[..., None], *args: Any) -> list[BaseProcess]:
    """Start `size` ranks, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[BaseProcess] = []
    for rank in range(size):
        place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        process = context.Process(target=in_environment, args=(place, target, *args), daemon=True)
        process.start()
        processes.append(process)
    return processes


def in_environment(place: dict[str, object], target: Callable[..., None], *args: Any) -> None:
    os.environ.update({name: str(value) for name, value in place.items()}, GLOO_SOCKET_IFNAME="lo")
    target(*args)


def finish(processes: list[BaseProcess], seconds: float = 60) -> list[int | None]:
    """Return the exit codes, None of a process that does not end."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "train"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def assert_equal_runs(one: Path, other: Path) -> None:
    """Sums of parts are rounded in another order: 1e-6 in float64 after 50 updates."""
    assert losses(one) == pytest.approx(losses(other), rel=1e-6)
    expected, found = weights(one), weights(other)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    train_rank(folder, config_of(**EXACT))
    checkpoint = load_checkpoint(folder / "checkpoints")
    assert checkpoint is not None and checkpoint.step >= 50
    return folder


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (3, 2)])
def test_several_ranks_have_the_losses_and_weights_of_one(
    context: ForkServerContext, alone: Path, tmp_path: Path, size: int, accumulate: int
) -> None:
    config = config_of(**EXACT, accumulate=accumulate)
    assert finish(start(context, size, train_rank, tmp_path, config)) == [0] * size
    assert_equal_runs(alone, tmp_path)


def test_parts_of_a_batch_give_the_update_of_the_whole_batch(alone: Path, tmp_path: Path) -> None:
    train_rank(tmp_path, config_of(**EXACT, accumulate=3))
    assert_equal_runs(alone, tmp_path)


def test_a_run_continues_with_another_number_of_ranks_after_a_signal_to_one(
    context: ForkServerContext, alone: Path, tmp_path: Path
) -> None:
    config = config_of(**EXACT)
    with pytest.raises(SystemExit, match="143"):
        train_rank(tmp_path, config, 15)
    assert finish(start(context, 2, train_rank, tmp_path, config, 15)) == [143, 143]
    checkpoint = load_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 30
    train_rank(tmp_path, config)
    assert_equal_runs(alone, tmp_path)


def test_a_killed_rank_ends_all_and_the_same_command_continues(
    context: ForkServerContext, alone: Path, tmp_path: Path
) -> None:
    config = config_of(**EXACT, checkpoint_seconds=0.0)
    for victim, survivor in ((1, 0), (0, 1)):
        before = len(list((tmp_path / "checkpoints").glob("step-*"))) and newest(tmp_path)
        ranks = start(context, 2, train_rank, tmp_path, config)
        while ranks[0].is_alive() and newest(tmp_path) < before + 3:
            time.sleep(0.001)
        ranks[victim].kill()
        ranks[survivor].join(30)
        assert ranks[survivor].exitcode == 2
        message = (tmp_path / f"error-{survivor}").read_text()
        assert message.startswith(f"rank {survivor} of 2 stops: another process of this run has ended")
    train_rank(tmp_path, config)
    assert_equal_runs(alone, tmp_path)


def test_a_rank_that_does_not_answer_ends_the_others(context: ForkServerContext, tmp_path: Path) -> None:
    config = config_of(**{**EXACT, "epochs": 99, "valid_every": 99}, checkpoint_seconds=0.0)
    ranks = start(context, 2, train_rank, tmp_path, config, 0, 3.0)
    while ranks[0].is_alive() and newest(tmp_path) < 2:
        time.sleep(0.001)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGSTOP)
    ranks[0].join(60)
    assert ranks[0].exitcode == 2 and "does not answer (Timed out" in (tmp_path / "error-0").read_text()
    finish(ranks[1:], 0)


def newest(folder: Path) -> int:
    """Return the step of the newest checkpoint, 0 without."""
    names = (path.name for path in (folder / "checkpoints").glob("step-????????"))
    return max((int(name.removeprefix("step-")) for name in names), default=0)


@pytest.mark.parametrize("kind", get_args(EncoderKind))
def test_every_parameter_of_an_encoder_has_a_gradient_which_all_ranks_wait_for(kind: EncoderKind) -> None:
    model = new_model(config_of(), kind)
    model.classify(torch.randn(2, 30, 8), torch.tensor([30, 11]))[0].sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_ranks_that_skip_different_blocks_and_features_keep_equal_weights(
    context: ForkServerContext, tmp_path: Path
) -> None:
    config = config_of(layer_dropout=0.5, dropout=0.3, epochs=2, batch_frames=300)
    assert finish(start(context, 2, train_rank, tmp_path, config)) == [0, 0]  # a validation compares weights


def train_on_other_data(folder: Path, config: TrainConfig) -> None:
    rank = int(os.environ["RANK"])
    train_rank(folder, replace(config, seed=rank))


def test_a_rank_with_other_batches_is_named_on_every_rank(context: ForkServerContext, tmp_path: Path) -> None:
    assert finish(start(context, 3, train_on_other_data, tmp_path, config_of())) == [2, 2, 2]
    for rank in range(3):
        message = (tmp_path / f"error-{rank}").read_text()
        assert message.startswith("the batches of rank 1 differ from those of rank 0")


@pytest.mark.parametrize("num_rows", range(9))
@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (1, 3), (2, 1), (3, 2), (5, 1)])
def test_every_row_of_a_batch_is_in_one_part_of_one_rank(num_rows: int, size: int, accumulate: int) -> None:
    parts = [part for rank in range(size) for part in own_rows(num_rows, rank, size, accumulate)]
    rows = [list(range(num_rows))[part] for part in parts]
    assert all(rows) and sorted(row for part in rows for row in part) == list(range(num_rows))


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number"),
        ({"WORLD_SIZE": "2"}, "RANK must be a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "rank 0 of 2 cannot reach the other processes"),
    ],
)
def test_a_wrong_environment_is_one_line(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=named), process_group("cpu"):
        pass


def test_a_rank_takes_the_gpu_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", 1) == torch.device("cuda", 1) and choose_device("cpu", 5).type == "cpu"
    with pytest.raises(UserError, match="process 3 of this machine has no GPU of its own: torch finds 2"):
        choose_device("auto", 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="torch finds no CUDA device"):
        choose_device("cuda")


def test_an_error_that_is_no_lost_connection_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), lost_rank_as_one_line(Ranks(0, 2), StopSignal()):
        raise RuntimeError("shapes do not fit")
