"""How weights are found: configuration, loop, optimizer state, checkpoints."""
