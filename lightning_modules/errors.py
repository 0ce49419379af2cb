"""Errors of a module's own that the command line prints in one line."""


class SettingError(ValueError):
    """The configuration asks for something that cannot be; found only once trainer or data were known."""
