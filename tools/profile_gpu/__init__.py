"""Measures a GPU's kernels into the tables that `simserve calibrate fit` reads; needs PyTorch alone."""
