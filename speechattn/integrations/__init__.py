"""The encoder inside other toolkits: one file a toolkit, imported only by name."""
