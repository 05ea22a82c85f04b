"""The compiled loops of native attention: imported with numba, compiled once, and kept in a cache folder.

What they compute is in `kernel.py`; `launch.py` calls it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from speechattn.errors import reason

SOURCES = ("llvm.py", "simd.py", "register_tiles.py", "softmax.py", "matmul.py", "query_block.py", "kernel.py")
"""Files that what is compiled depends on."""


@functools.cache  # once: an import that fails is slow each time
def failed_import() -> str | None:
    """Return why numba is installed but does not import, or None."""
    try:
        imported()
    except Exception as error:
        return f"numba does not import: {reason(error)}"
    return None


def imported() -> ModuleType:
    """Return kernel.py, imported so that numba caches in our folder, unless NUMBA_CACHE_DIR names another."""
    if "speechattn.attention.native.kernel" not in sys.modules:
        from numba import config

        chosen = config.CACHE_DIR
        config.CACHE_DIR = chosen or cache_folder()
        try:
            from speechattn.attention.native import kernel
        finally:
            config.CACHE_DIR = chosen
    from speechattn.attention.native import kernel

    return kernel


def cache_folder() -> str:
    """Return the folder of compiled code, "" if nothing can be written there.

    Its name is a hash of what was compiled: numba looks at one file, and would not see that simd.py has changed. It is
    never a folder that others can write to, since its content is run.
    """
    code = b"".join((Path(__file__).parent / name).read_bytes() for name in SOURCES)
    home = Path(os.environ.get("SPEECHATTN_CACHE") or "~/.cache/speechattn")
    try:
        folder = home.expanduser() / "native" / hashlib.sha256(code).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # no home is a RuntimeError
        return ""
    return str(folder)


@functools.cache
def compiled(backward: bool, lanes: int) -> Any:
    """Return the loops, compiled, or read from the cache: once, and before several threads need them."""
    kernel = imported()
    function = (kernel.backward if backward else kernel.forward)[lanes]
    none = np.zeros(0, np.int32)
    nothing = (np.zeros((10, 4), np.int64), none, none, np.zeros(0, np.int64), (*[1] * 7, 0, 1), 1.0, 0, 0)
    try:
        function(*nothing)
    except OSError:  # compiled, but the disk is full: the next process compiles again
        pass
    except Exception:  # what was kept cannot be read
        shutil.rmtree(cache_folder(), ignore_errors=True)
        function(*nothing)
    return function
