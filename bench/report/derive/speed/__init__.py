"""What times say: ratios, their conditions, axes of cost, the tax of attention, the gate."""
