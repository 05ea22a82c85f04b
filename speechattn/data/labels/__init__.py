"""Segments, label sets, alignment formats and frame labels."""
