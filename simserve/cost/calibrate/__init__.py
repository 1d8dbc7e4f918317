"""Fitting kernel models to measured tables, and checking them: `simserve calibrate`."""
