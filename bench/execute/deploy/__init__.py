"""Deployments as files: exported, tested, with the test set that they are tested on."""
