"""Memory, operations and latency of an encoder before anything is allocated. Standard library only."""
