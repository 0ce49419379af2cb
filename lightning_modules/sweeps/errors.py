"""The error of sweep files and of the trials that are made from them."""


class SweepError(RuntimeError):
    """A sweep file asks for what cannot be run here, or trials are in the way; the message says what to do."""
