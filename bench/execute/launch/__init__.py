"""Jobs on other machines: handed to a scheduler that people run already, and followed by files."""
