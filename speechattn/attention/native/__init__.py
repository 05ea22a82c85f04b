"""Truncated attention compiled by numba for float32 on a CPU."""
