"""Names in figures: as they are, not as formulas that Matplotlib would set."""

from crfnet.errors import printable

__all__ = ["figure_text"]

_LENGTH = 40  #: characters of a name that a figure has room for


def figure_text(name: str) -> str:
    """The text that Matplotlib shows as the name itself, on one line; long names are cut in their middle.

    Between two dollar signs it would read a formula, and fail at what is none.
    """
    shown = printable(" ".join(name.split()))
    if len(shown) > _LENGTH:
        shown = f"{shown[: _LENGTH - 10]}…{shown[-9:]}"
    return shown.replace("$", r"\$")
