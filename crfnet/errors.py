"""The one exception that means: what you gave cannot be used; and the phrases that say so.

What a smaller installation lacks is a `ModuleNotFoundError`, as everywhere, that says what to install.
"""

import dis
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "EXTRAS",
    "InputError",
    "how_to_install",
    "is_out_of_memory",
    "is_refusal",
    "needing",
    "printable",
    "require",
]


_SHOWN, _LONGEST = 500, 1900  #: characters of a value in a message, and of a message


class InputError(ValueError):
    """Bad input from outside: a file, a config key, an argument.

    Its message is one line that names the place, the value that came and what is allowed. The command line
    prints that line and exits with status 2; library users catch it as the `ValueError` that it is. What is
    too long to be read, as of a value out of a damaged file, is cut.
    """

    def __str__(self) -> str:  # and no __init__: torch.export cannot follow one
        text = super().__str__()
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise InputError(f"{place} is {shown}, must be {allowed}")


def is_refusal(error: BaseException) -> bool:
    """Whether an exception says what cannot be used: an `InputError`, or a `ValueError` that crfnet raises.

    A ValueError out of another package, or out of an operation of ours that failed, is a bug. What another
    process raised (`crfnet.distributed`) carries the answer in its attribute ``refusal``.
    """
    if isinstance(error, InputError) or getattr(error, "refusal", False):
        return True
    trace = error.__traceback__
    if not isinstance(error, ValueError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    raised = trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    return raised and module.partition(".")[0] == "crfnet" and module != "crfnet.distributed"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, or by the words of the system, torch, CUDA, cuBLAS or triton."""
    line = str(error).partition("\n")[0]
    words = ("allocate", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(word in line for word in words)


#: Characters that turn the direction of the text after them.
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str) -> str:
    """Return a text of which a terminal obeys nothing but its line ends: what else it would is escaped.

    File names, class names and other words of configurations and checkpoints may hold any character: those
    that move the cursor, ring, or set the title of a window are shown as Python writes them.
    """
    return "".join(_escaped(character) if _is_obeyed(character) else character for character in text)


def _is_obeyed(character: str) -> bool:
    return character not in "\n\t" and (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


#: What brings a module that ``pip install crfnet`` does not: the distribution, and the extra of crfnet.
EXTRAS = {
    "PIL": ("pillow", "cli"),
    "bokeh": ("bokeh", "explore"),
    "filelock": ("filelock", "cli"),
    "jinja2": ("jinja2", "cli"),
    "jsonargparse": ("jsonargparse", "cli"),
    "matplotlib": ("matplotlib", "cli"),
    "optuna": ("optuna", "cli"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "onnxscript": ("onnxscript", "export"),
    "psycopg": ("psycopg", "postgresql"),
    "rasterio": ("rasterio", "geo"),
    "safetensors": ("safetensors", "cli"),
    "scipy": ("scipy", "cli"),
    "tensorboard": ("tensorboard", "cli"),
    "tflite": ("tflite", "tflite"),
    "timm": ("timm", "cli"),
    "torchvision": ("torchvision", "cli"),
    "tqdm": ("tqdm", "cli"),
    "yaml": ("pyyaml", "cli"),
}


def how_to_install(error: BaseException) -> str | None:
    """What to install for an import that failed, in one line; None for other errors and other modules."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    distribution, extra = EXTRAS.get((error.name or "").partition(".")[0], (None, None))
    return None if distribution is None else f"needs {distribution}: pip install 'crfnet[{extra}]'"


@contextmanager
def needing(what: str) -> Iterator[None]:
    """Within, an import of what only an extra of crfnet brings fails in one line that says which.

    Args:
        what: cannot be had without it: the line's first words.

    Raises:
        ModuleNotFoundError: ``{what} needs pyyaml: pip install 'crfnet[cli]'``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (line := how_to_install(error)) is None:
            raise
        raise ModuleNotFoundError(f"{what} {line}", name=error.name) from None
