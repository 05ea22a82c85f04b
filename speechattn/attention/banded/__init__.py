"""Portable truncated attention in linear time and memory."""
