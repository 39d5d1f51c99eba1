"""Cost without a clock: parameters, operations, activations, by counters that must agree."""
