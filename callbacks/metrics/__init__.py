"""Metrics as pure functions of (original, reconstruction), one per file; one value per image.

Images are float (B, 3, H, W) in [0, 1], reconstructions already on the 8-bit grid: nothing here rounds or
clamps.
"""
