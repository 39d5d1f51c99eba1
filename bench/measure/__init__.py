"""What a model costs: counted, timed, its memory, its energy, and where the time goes."""
