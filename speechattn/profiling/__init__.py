"""How long, how much memory, up to which length: measured in processes of their own, recorded, drawn, compared."""

from speechattn.profiling.memory import peak_memory_bytes, reset_peak_memory

__all__ = ["peak_memory_bytes", "reset_peak_memory"]
