"""W&B sweep files without a server: every point of a grid as a trial of its own, several at a time, resumable."""
