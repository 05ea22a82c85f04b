"""How much memory and time an encoder takes for how much audio, before anything is allocated. Standard library only."""
