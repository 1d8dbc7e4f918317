"""Kernel models: seconds of one launch from its shape, one file a family."""
