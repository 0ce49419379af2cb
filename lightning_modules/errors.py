"""Errors that the command line prints in one line; without torch, so that it starts at once."""


class SettingError(ValueError):
    """The configuration asks for something that cannot be; found only once trainer or data were known."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, unreadable, or of another kind."""


class PretrainedError(RuntimeError):
    """Pretrained weights are missing, could not be downloaded, or do not fit their network."""
