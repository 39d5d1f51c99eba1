"""Training: the loop, the engine, the plain loop, checkpoints, testing."""
