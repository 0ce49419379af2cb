"""The reproduction report of the digits experiments, made from result records alone."""
