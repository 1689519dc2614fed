"""The exception for input that cannot be used, and the one phrase of its messages."""

__all__ = ["InputError", "require"]


class InputError(ValueError):
    """Bad input from outside: a file, a config key, an argument.

    Its message is one line that names the place, the value that came and what is allowed. The command line
    prints that line and exits with status 2; library users catch it as the `ValueError` that it is.
    """


def require(place: str, value: object, holds: bool, allowed: str) -> None:
    """Refuse a value unless the condition holds, in the words of every such message.

    Args:
        place: where the value came from: a key (``crf.w1``), an argument, a file.
        value: what came.
        holds: whether it can be used.
        allowed: what can be: completes "must be".

    Raises:
        InputError: ``{place} is {value}, must be {allowed}``.
    """
    if not holds:
        raise InputError(f"{place} is {value!r}, must be {allowed}")
