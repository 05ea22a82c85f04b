"""Logits to labels."""
