"""Changes to waveforms and frames that only training makes."""
