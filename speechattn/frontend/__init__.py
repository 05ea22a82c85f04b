"""Waveform to frames: log-mel, MFCC and corpus normalization."""
