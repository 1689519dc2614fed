"""The one exception that means: what you gave cannot be used."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input from outside: a file, a config key, an argument.

    Its message is one line that names the place, the value that came and what is allowed. The command line
    prints that line and exits with status 2; library users catch it as the `ValueError` that it is.
    """
