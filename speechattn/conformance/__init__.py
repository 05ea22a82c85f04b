"""Checks of the attention contracts against any encoder. `speechattn.conformance.suite` is the entry point."""
