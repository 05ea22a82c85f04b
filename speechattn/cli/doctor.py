"""`speechattn doctor`: which packages are installed and whether they work, on one screen.

Import errors are caught, so it works where torch is broken or absent. Exit status 1 only if a required package is
missing or broken; extras and torchaudio are reported with the command that fixes them.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from speechattn.cli.options import Parser
from speechattn.errors import UserError, reason
from speechattn.system.machine_info import usable_cores
from speechattn.system.optional_imports import require_torchaudio
from speechattn.system.process_memory import machine_bytes

REQUIRED = ("torch", "numpy", "librosa", "soundfile", "soxr", "safetensors", "tqdm", "matplotlib")
EXTRAS = {
    "synth": (("espeakng-loader",), "the synthetic corpus"),
    "export": (("onnx", "onnxscript", "onnxruntime"), "models in ONNX"),
    "tensorboard": (("tensorboard",), "training curves in TensorBoard"),
    "dev": (("pytest", "hypothesis", "ruff", "mypy"), "the tests and checks"),
    "numba": (("numba",), "native attention and librosa; it comes with librosa"),
}
TESTED_PAIR = "pip install torch==2.11.0 torchaudio==2.11.0"


@dataclass(frozen=True)
class Finding:
    """One line of the report: `state` is "ok", "missing", "broken" or "mismatched"; `fix` is what to type."""

    name: str
    version: str
    state: str = "ok"
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.name:<14}{self.version:<14}{self.state}"
        return f"{line}, {self.fix}" if self.fix else line


def check_package(name: str) -> Finding:
    """Return whether a required package imports; any exception is a finding, not a crash."""
    found = _version(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name.replace("-", "_"))
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return Finding(name, "-", "missing", f"pip install {name}")
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        return Finding(name, found or "-", "broken", f"{first}: pip install --force-reinstall {name}")
    return Finding(name, found or "unknown")


def check_torchaudio() -> Finding:
    """Return whether torchaudio fits the installed torch; the newest of both do not."""
    found = _version("torchaudio")
    if found is None:
        return Finding("torchaudio", "-", "missing", f"for speeds, noise and RNNT: {TESTED_PAIR}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            require_torchaudio("doctor")
    except UserError:
        return Finding("torchaudio", found, "mismatched", f"does not fit torch {_version('torch')}: {TESTED_PAIR}")
    return Finding("torchaudio", found)


def check_extra(name: str) -> Finding:
    """Return whether all packages of an extra are installed, without importing them."""
    packages, purpose = EXTRAS[name]
    missing = [package for package in packages if _version(package) is None]
    if not missing:
        return Finding(name, _version(packages[0]) or "-" if len(packages) == 1 else f"all {len(packages)}")
    return Finding(name, "-", "missing", f"for {purpose}: pip install {' '.join(missing)}")


def describe_machine() -> Iterable[str]:
    """Yield lines about Python, processor and memory; standard library only."""
    yield f"{'python':<14}{platform.python_version()} ({sys.executable})"
    cores = f"{os.cpu_count()} processors, {usable_cores()} usable"
    yield f"{'system':<14}{platform.system()} {platform.machine()}, {cores}"
    memory = machine_bytes()
    yield f"{'memory':<14}{'unknown' if memory is None else f'{memory / 2**30:.1f} GiB'}"


def describe_torch(torch: Any) -> Iterable[str]:
    """Yield lines about what torch can use: instruction set, threads, GPUs."""
    yield f"{'cpu':<14}{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads in torch"
    native = importlib.import_module("speechattn.attention.native.attention")
    unavailable = native.native_unavailable() or native.import_error()
    yield f"{'attention':<14}{f'not native: {unavailable}' if unavailable else 'native backend works here'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about drivers; the line below says the same
        available = torch.cuda.is_available()
    if not available:
        yield f"{'cuda':<14}not available (torch built for {torch.version.cuda or 'the CPU only'})"
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield f"{'cuda':<14}{index}: {device.name}, {device.total_memory / 2**30:.1f} GiB, CUDA {torch.version.cuda}"


def main(argv: Sequence[str] = ()) -> int:
    """Print the report; return 1 if a required package is missing or broken, else 0."""
    Parser("speechattn doctor", description="What is installed, and whether it works.").parse_args(argv)
    print(f"speechattn    {_version('speechattn') or 'not installed (running from its folder)'}")
    for line in describe_machine():
        print(line)
    print("\nrequired")
    findings = [check_package(name) for name in REQUIRED]
    for finding in findings:
        print(f"  {finding}")
    print("\noptional")
    print(f"  {check_torchaudio()}")
    for name in EXTRAS:
        print(f"  {check_extra(name)}")
    if findings[0].state == "ok":
        print()
        try:
            for line in describe_torch(importlib.import_module("torch")):
                print(line)
        except (RuntimeError, AssertionError) as error:  # a GPU that is visible but does not answer
            print(f"{'cuda':<14}broken: {reason(error)}")
    broken = [finding.name for finding in findings if finding.state != "ok"]
    print(f"\n{len(broken)} required packages need attention: {', '.join(broken)}." if broken else "\nReady.")
    return 1 if broken else 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
