"""The processes of one run, each a rank of torch.distributed: started by torchrun, or one process without it.

Ranks exchange gradients (DistributedDataParallel does, in trainer.py) and a few numbers. Gradients use gloo on a CPU
and nccl on GPUs, numbers always gloo. What a rank waits for within a step has a short timeout; the work that only rank
0 does has a long one. Not here: which rows of a batch a rank trains on (batch_parts.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import distributed

from speechattn.errors import UserError, reason
from speechattn.system.stop_signal import Interrupted, StopSignal

STEP_TIMEOUT_S = 600.0
"""Seconds that a rank waits for the gradients of another one, which may be writing a checkpoint."""
MAIN_TIMEOUT_S = 24 * 3600.0
"""Seconds that a rank waits while rank 0 prepares data, validates, scores or writes the report."""


@dataclass(frozen=True)
class Ranks:
    """This process, `rank` of `size`, and its device. With one process every method returns at once."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    steps: distributed.ProcessGroup | None = None
    """The gloo group for numbers of a step, with a short timeout."""
    waits: distributed.ProcessGroup | None = None
    """The gloo group for numbers before and after work of rank 0 alone, with a long timeout."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone prints, validates and writes files."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks of `values` of a step, in float64."""
        return self._reduce(values, distributed.ReduceOp.SUM, self.steps)

    def received(self, stop: StopSignal) -> int | None:
        """Return the signal that any rank received before this step, the same on every rank, None without."""
        return int(self._reduce([stop.received or 0], distributed.ReduceOp.MAX, self.steps)[0]) or None

    def from_main(self, value: bool) -> bool:
        """Return the value that rank 0 gave."""
        return bool(self._reduce([value and self.is_main], distributed.ReduceOp.MAX, self.waits)[0])

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self._reduce([0], distributed.ReduceOp.MAX, self.waits)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the body on rank 0, and then on all others at the same time."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def check_equal(self, what: str, content: Callable[[], bytes]) -> None:
        """Compare a hash of what `content` returns over all ranks; with one process it is not called.

        Raises:
            UserError: on every rank, if one has other content than rank 0.
        """
        if self.size == 1:
            return
        own = torch.tensor(int.from_bytes(hashlib.sha256(content()).digest()[:7], "big"))
        found = [torch.zeros_like(own) for _ in range(self.size)]
        distributed.all_gather(found, own, group=self.waits)
        others = [rank for rank in range(self.size) if found[rank] != found[0]]
        if others:
            raise UserError(
                f"{what} of rank {others[0]} differ from those of rank 0: every process needs the same command, data, "
                "versions and run folder (a shared disk, with several nodes). Checkpoints are unchanged."
            )

    def _reduce(
        self, values: Sequence[float], operation: distributed.ReduceOp.RedOpType, group: distributed.ProcessGroup | None
    ) -> list[float]:
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total, operation, group)
        return [float(value) for value in total]

    @contextlib.contextmanager
    def quiet_others(self) -> Iterator[None]:
        """Discard what ranks other than 0 print; an exception that leaves the body is printed by its caller."""
        if self.is_main:
            yield
            return
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield


@contextlib.contextmanager
def process_group(device: str, step_timeout_s: float = STEP_TIMEOUT_S) -> Iterator[Ranks]:
    """Connect the ranks that the environment names (RANK, WORLD_SIZE, LOCAL_RANK, as torchrun sets them).

    `device` is auto, cpu or cuda; a rank takes the GPU of its LOCAL_RANK.

    Raises:
        UserError: a variable is missing, there is no such GPU, or the other ranks cannot be reached.
    """
    size = _from_environment("WORLD_SIZE", "1")
    if size == 1:
        yield Ranks(device=choose_device(device))
        return
    rank, local_rank = _from_environment("RANK"), _from_environment("LOCAL_RANK", "0")
    own = choose_device(device, local_rank)
    try:
        backend = "gloo"
        if own.type == "cuda":
            torch.cuda.set_device(own)
            backend = "nccl"
        step_timeout, main_timeout = timedelta(seconds=step_timeout_s), timedelta(seconds=MAIN_TIMEOUT_S)
        distributed.init_process_group(backend, timeout=step_timeout, rank=rank, world_size=size)
        steps = distributed.new_group(backend="gloo", timeout=step_timeout)
        waits = distributed.new_group(backend="gloo", timeout=main_timeout)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"rank {rank} of {size} cannot reach the other processes ({reason(error)}). Start them with torchrun, or "
            "set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for each."
        ) from error
    yield Ranks(rank, size, own, steps, waits)
    # Only after success: with a rank that died, closing could wait for it, and the end of the process closes all.
    distributed.destroy_process_group()


@contextlib.contextmanager
def lost_rank_as_one_line(ranks: Ranks, stop: StopSignal) -> Iterator[None]:
    """Turn the failed connection to another rank into one line for the user.

    Raises:
        UserError: another rank has ended or does not answer.
        Interrupted: rank 0 has ended after a signal, which this rank received, too.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.size == 1 or not _is_lost_connection(error):
            raise
        if stop.received is not None and not ranks.is_main:
            raise Interrupted(stop.received) from error
        cause = reason(error).split("] ", 1)[-1][:200]  # gloo begins with a line of its source
        raise UserError(
            f"rank {ranks.rank} of {ranks.size} stops: another process of this run has ended or does not answer "
            f"({cause}). The last checkpoint is whole; the same command continues from it."
        ) from error


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device of a rank: auto is a GPU where torch finds one.

    Raises:
        UserError: there is no GPU, or none for this rank.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise UserError(
            "--device cuda: torch finds no CUDA device here. Use --device cpu; speechattn doctor says more."
        )
    if local_rank >= count:
        raise UserError(
            f"process {local_rank + 1} of this machine has no GPU of its own: torch finds {count}. Use torchrun "
            f"--nproc-per-node {count}, or --device cpu."
        )
    return torch.device("cuda", local_rank)


def _from_environment(name: str, default: str | None = None) -> int:
    """Return the whole number that a launcher has set."""
    text = os.environ.get(name, default)
    if text is None or not text.isdecimal() or (name == "WORLD_SIZE" and int(text) < 1):
        raise UserError(
            f"the environment variable {name} must be a whole number where WORLD_SIZE is set, got {text!r}: start "
            "several processes with torchrun, or unset WORLD_SIZE."
        )
    return int(text)


def _is_lost_connection(error: RuntimeError) -> bool:
    """Return whether torch.distributed raised `error`; gloo has no class of its own, but its files are named."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error)
