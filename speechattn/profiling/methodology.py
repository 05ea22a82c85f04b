"""How a profile measures, in sentences: for the page, and beside the numbers in profile.json."""

from __future__ import annotations

from speechattn.profiling.settings import Settings
from speechattn.system.units import format_bytes


def method(settings: Settings) -> list[str]:
    """A sentence or two for each thing that is measured, and for what is not."""
    told = [
        "Every point has processes of its own, forked from one that has imported torch and computed nothing: one for "
        "memory, one for time, one for tensors. Each makes a pass over 256 frames first, which is not measured.",
        _what(settings),
        _memory(settings),
        _time(settings),
        _tensors(settings),
        "Bytes per frame are the extra memory over the frames of all rows. Growth is the power p of T ** p by least "
        "squares of the logarithms over the lengths that ran, extra memory from 2 MB on. What a GB lasts for is read "
        "off a constant and a slope through these lengths, with a square where they need one, and unknown where no "
        "such curve is within 10 % of each. 1 MB is 1,000,000 bytes.",
        _ceiling(settings),
    ]
    return [text for text in told if text]


def _what(settings: Settings) -> str:
    rows = f"{settings.batch_size} row{'s' if settings.batch_size > 1 else ''} of seeded random frames"
    stream = (
        f"streaming makes its pushes of {settings.push} frames as it goes and drops its output, as a service "
        "does that sends it on"
    )
    if settings.mode == "training":
        saving = " Blocks of speechattn are computed twice (gradient checkpointing)."
        return (
            f"A pass is forward and backward of the mean square of the output, over {rows}, float32. The input, the "
            "weights and their gradients are there before and do not count; the optimizer has none."
            + saving
            * settings.config.gradient_checkpointing
        )
    return (
        f"A pass is forward without gradients over {rows}, float32. The input is there before and does not count, "
        f"the output does; {stream}."
    )


def _memory(settings: Settings) -> str:
    if settings.device == "cuda":
        return "Extra memory is by how much what torch has reserved on the device grows in the pass."
    return (
        "Extra memory is by how much the peak resident size (VmHWM of Linux) grows in the pass. The C library is told "
        "to give back every block of 100 KB and more at once; what it would keep for later is not counted."
    )


def _time(settings: Settings) -> str:
    least = f", the least of {settings.rounds} passes" if settings.rounds > 1 else ", of one pass"
    if settings.device == "cuda":
        return f"Time is what passed until the device was done{least}."
    if settings.threads == 1:
        return f"Time is of the processor on one thread{least}: a busy machine does it little harm."
    return f"Time is what passed on {settings.threads} threads{least}."


def _tensors(settings: Settings) -> str:
    if settings.device == "cuda":
        return "Tensors are the most bytes that torch had allocated on the device at once, over what it had before."
    return (
        "Tensors are the most bytes that torch's new tensors took at one moment: each storage once, until the last "
        "who needs it lets go. What one operation keeps to itself while it runs is in extra memory alone."
    )


def _ceiling(settings: Settings) -> str:
    limit = "" if settings.memory_bytes is None else f"{format_bytes(settings.memory_bytes)} of memory and "
    kind = "the device's, as torch takes it" if settings.device == "cuda" else "the interpreter's own included"
    stop = "what needs more has run out, and longer audio is then not tried"
    whose = f" ({kind}; RLIMIT_DATA on Linux)" if settings.device == "cpu" else f" ({kind})"
    return f"Ceilings of a process: {limit}{settings.timeout_s:g} s a pass{whose if limit else ''}; {stop}."
