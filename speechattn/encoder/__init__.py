"""Frames to hidden vectors, offline and streaming."""
