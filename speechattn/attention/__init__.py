"""Queries, keys and values to output: functions only. `speechattn.attention.functional` is the entry point.

The public function `speechattn.attention` has the name of this package: import its files by name.
"""
