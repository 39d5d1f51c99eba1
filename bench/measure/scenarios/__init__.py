"""What is asked of a session beside its own speed: end to end, and as a server."""
