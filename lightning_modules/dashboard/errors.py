"""The error of a dashboard that cannot be made or sent."""


class DashboardError(RuntimeError):
    """No account, no such project, or a view that is not there; the message says what to do."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
