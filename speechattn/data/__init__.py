"""Files to tensors: audio, segments in seconds, the LibriSpeech layout, alignments, batches, a labelled corpus.

Nothing is imported here: take names from the modules, so that reading a transcript does not load a sound library.
"""
