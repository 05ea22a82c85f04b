"""Runs side by side, for `speechattn compare`: their folders, numbers, differences, and a page."""
