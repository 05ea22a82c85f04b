"""Logits of frames to labels: smoothing and search. Needs no model."""
