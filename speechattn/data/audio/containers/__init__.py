"""The links that a sound file consists of, found by parsing its container without decoding it.

A decoder trusts the container. libsndfile stops after the first link of a chained Ogg, at the number of samples that a
FLAC header promises, and at an estimated length of an MP3 without a table; it shortens a truncated WAV without an
error. These parsers read Ogg pages, MPEG frames, the last FLAC frame and chunk sizes instead. Work and memory are
bounded: each byte is read at most once, 1 MiB at a time. sound_file.py decodes.
"""
