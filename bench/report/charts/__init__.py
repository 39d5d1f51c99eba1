"""The charts, each a function of the study."""
