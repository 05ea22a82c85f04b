"""One worker process of the cache: ``python -m speechattn.training.cache.worker``.

It reads JSON from its input, a line for the kind of work and its settings, then a line for each task; it writes a line
for each result. It ignores SIGINT and SIGTERM, which its parent handles, and ends at once when its parent has ended,
however that ended: its input is closed then.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

from speechattn.errors import UserError
from speechattn.training.cache.jobs import make_handler


def main() -> None:
    """Do tasks until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    first = json.loads(lines.get())
    handle = None
    while True:
        task = json.loads(lines.get())
        try:
            if handle is None:
                handle = make_handler(first["kind"], first["settings"])
            answer = {"result": handle(task)}
        except Exception as error:
            answer = {"error": _described(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _read(lines: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(1)  # in the middle of a shard, too: what it has written has no name yet


def _described(error: Exception) -> dict[str, Any]:
    if isinstance(error, OSError) and error.errno is not None:
        return {"errno": error.errno, "text": error.strerror, "path": error.filename}
    if isinstance(error, UserError):
        return {"user": str(error)}
    return {"traceback": traceback.format_exc()}


if __name__ == "__main__":
    main()
