"""The error of a verb that was asked for something it cannot do."""


class CommandError(RuntimeError):
    """Wrong arguments, unsuitable pictures, or outputs in the way; the message says what to do."""
