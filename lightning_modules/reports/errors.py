"""The error of everything that a report is made from."""


class ReportError(RuntimeError):
    """A record cannot be read, or records do not fit together; the message names them and says what to do."""
