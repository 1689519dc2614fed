"""Errors as text for messages of one line."""

__all__ = ["one_line"]


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line of at most 200 characters; its kind where it says nothing."""
    words = " ".join(str(error).split())
    return (words if len(words) <= 200 else f"{words[:197]}...") or type(error).__name__
