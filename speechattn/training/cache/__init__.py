"""Frames and labels of a corpus on disk, made once by several processes and read piece by piece."""
