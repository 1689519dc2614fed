"""Errors as text for messages of one line."""

__all__ = ["one_line", "why"]


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line of at most 200 characters; its kind where it says nothing."""
    words = " ".join(str(error).split())
    return (words if len(words) <= 200 else f"{words[:197]}...") or type(error).__name__


def why(error: BaseException) -> str:
    """Return why a file cannot be read: without the number and the name that an `OSError` says again."""
    return (isinstance(error, OSError) and error.strerror) or one_line(error)
