"""The sound files that a file consists of, found by reading its container without decoding it.

A decoder believes its container. libsndfile stops after the first link of a chained Ogg, at the number of samples that
a FLAC header promises, and at an estimated length of an MP3 without a table; it shortens a truncated WAV silently.
`find.py` reads what the bytes themselves say: Ogg pages, MPEG frames, the last FLAC frame, chunk sizes. Work and memory
are bounded: every byte is read once at most, 1 MiB at a time. Not here: decoding, which is `data/audio/files.py`.
"""
