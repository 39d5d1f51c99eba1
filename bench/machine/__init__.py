"""The only folder that names cuda, mps and cpu; elsewhere devices are strings: ``cuda:0``."""
