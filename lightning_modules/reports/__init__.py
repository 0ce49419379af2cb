"""Reports: rate-distortion curves, BD tables and pictures, made from result records alone."""
