"""The method of a profile in sentences, for the page and for profile.json."""

from __future__ import annotations

from speechattn.profiling.settings import Settings
from speechattn.system.units import format_bytes


def method(settings: Settings) -> list[str]:
    """Return one or two sentences for each quantity and limit."""
    sentences = [
        "Every measurement has its own processes, forked from one that has imported torch and computed nothing: one "
        "for memory, one for time, one for tensors. Each makes a pass over 256 frames first, which is not measured.",
        _what(settings),
        _memory(settings),
        _time(settings),
        _tensors(settings),
        "Bytes per frame are the extra memory over the frames of all rows. Growth is the power p of T ** p by least "
        "squares of the logarithms over the lengths that ran, extra memory from 2 MB on. The audio per GB follows "
        "from a constant and a slope through these lengths, with a square where they need one, and is unknown where no "
        "such curve is within 10 % of each. 1 MB is 1,000,000 bytes.",
        _ceiling(settings),
    ]
    return [text for text in sentences if text]


def _what(settings: Settings) -> str:
    rows = f"{settings.batch_size} row{'s' if settings.batch_size > 1 else ''} of seeded random frames"
    stream = (
        f"streaming makes its pushes of {settings.push} frames one by one and drops its output, as a service "
        "that forwards it"
    )
    if settings.mode == "training":
        saving = ""
        if settings.config.gradient_checkpointing:
            saving = " Blocks of speechattn are computed twice (gradient checkpointing)."
        return (
            f"A pass is forward and backward of the mean square of the output, over {rows}, float32. The input, the "
            "weights and their gradients exist before and do not count; there is no optimizer." + saving
        )
    return (
        f"A pass is forward without gradients over {rows}, float32. The input exists before and does not count, "
        f"the output does; {stream}."
    )


def _memory(settings: Settings) -> str:
    if settings.device == "cuda":
        return "Extra memory is the growth of the memory that torch has reserved on the device, in the pass."
    return (
        "Extra memory is the growth of the peak resident size (VmHWM of Linux) in the pass. The C library is set to "
        "return every freed block of 100 KB and more at once; what it would keep for later is not counted."
    )


def _time(settings: Settings) -> str:
    least = f", the least of {settings.rounds} passes" if settings.rounds > 1 else ", of one pass"
    if settings.device == "cuda":
        return f"Time is elapsed time until the device was done{least}."
    if settings.threads == 1:
        return f"Time is CPU time on one thread{least}: it depends little on other programs."
    return f"Time is elapsed time on {settings.threads} threads{least}."


def _tensors(settings: Settings) -> str:
    if settings.device == "cuda":
        return "Tensors are the growth of the peak bytes that torch has allocated on the device."
    return (
        "Tensors are the peak bytes of torch's new tensors: each storage once, until its last reference is gone. "
        "Temporary memory inside an operator is in extra memory only."
    )


def _ceiling(settings: Settings) -> str:
    limit = "" if settings.memory_bytes is None else f"{format_bytes(settings.memory_bytes)} of memory and "
    kind = "the device's" if settings.device == "cuda" else "the interpreter included"
    stop = "a measurement that needs more has failed, and longer audio is then not tried"
    whose = f" ({kind}; RLIMIT_DATA on Linux)" if settings.device == "cpu" else f" ({kind})"
    return f"Limits of a process: {limit}{settings.timeout_s:g} s a pass{whose if limit else ''}; {stop}."
