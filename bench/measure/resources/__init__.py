"""What a row takes beside time: memory, energy, the share of the peak, and where its time goes."""
