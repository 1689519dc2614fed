"""Weights in files: our own checkpoints, and the public ones of DeepLab by their layouts."""
