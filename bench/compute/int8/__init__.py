"""int8: images that calibrate, and one module for each library that makes int8 of a network."""
