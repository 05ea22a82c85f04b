"""The most bytes that torch's tensors take at one moment, counted exactly: every storage once, from birth to death.

A mode of torch sees the result of every operation; a storage counts until the last who needs it lets go, autograd's
saved tensors included, and views count nothing. What an operation keeps to itself while it runs is not seen here, but
in resident memory (memory.py). For the CPU: CUDA's allocator counts by itself. It costs microseconds an operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class PeakTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered: `peak_bytes` is the most that new tensors took together, `alive_bytes` what they do.

    `known` are tensors that were there before and do not count: weights, gradients, input.

    Example:
        >>> x = torch.zeros(1000)
        >>> with PeakTensors(known=[x]) as counted:
        ...     y = x + 1
        ...     z = y.view(10, 100)[0]
        >>> counted.peak_bytes, counted.alive_bytes
        (4000, 4000)
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self.alive_bytes = 0
        self._storages: dict[int, tuple[Any, int | None]] = {}
        """By address: a weak reference, and the bytes that count, None of what was known before."""
        for tensor in known:
            self._note(tensor, counts=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._notice((args, *kwargs.values()))  # what numpy has made is seen when it is first used
        result = func(*args, **kwargs)
        self._notice(result)
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        return result

    def _notice(self, tree: Any) -> None:
        if isinstance(tree, Tensor):
            self._note(tree)
        elif isinstance(tree, (tuple, list)):
            for part in tree:
                self._notice(part)

    def _note(self, tensor: Tensor, counts: bool = True) -> None:
        """Count a storage that is new, or by what it has grown."""
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        ref, before = self._storages.get(key, (None, 0))
        if before is None:
            return
        if ref is None:
            # torch keeps the Python object of a storage for as long as the storage itself: it ends when that is freed.
            ref = weakref.ref(storage, lambda _: self._forget(key))
        size = storage.nbytes()
        self._storages[key] = (ref, size if counts else None)
        self.alive_bytes += size - before if counts else 0

    def _forget(self, key: int) -> None:
        _, size = self._storages.pop(key)
        self.alive_bytes -= size or 0
