"""Triton: the kernels that run on an NVIDIA GPU, and on a CPU in Triton's interpreter."""
