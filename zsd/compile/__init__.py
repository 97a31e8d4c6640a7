"""Checkpoints turned into the files that the CPU engines run."""
