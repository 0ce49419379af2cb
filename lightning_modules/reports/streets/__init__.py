"""The reproduction report of the street-scenes experiments, made from result records alone."""
