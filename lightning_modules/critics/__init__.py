"""Critics that train a perceptual decoder g2: their networks and the losses of both sides."""
