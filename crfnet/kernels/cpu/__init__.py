"""The CPU kernels: numba, numpy arrays in and out; no autograd, no dispatch. Import a file where it is used.

Importing one imports numba, which takes half a second; the first call of an entry compiles it, or loads it
from the user's cache (`crfnet.kernels.cpu.compile`).
"""
