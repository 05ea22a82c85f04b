"""Waveform to logits: heads, SpeechModel and the pretrained model."""
