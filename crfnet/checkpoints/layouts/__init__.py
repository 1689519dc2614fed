"""Public DeepLab checkpoints as models of this library: which layout it is, and its weights by our names.

One file for each layout; a new one is a file and a line in `LAYOUTS`.
"""

from collections.abc import Sequence

from crfnet.checkpoints.layouts.jfzhang import JFZHANG
from crfnet.checkpoints.layouts.kazuto import KAZUTO
from crfnet.checkpoints.layouts.layout import Imported, Layout, State, check_fits
from crfnet.checkpoints.layouts.tflite import import_tflite
from crfnet.checkpoints.layouts.torchvision import TORCHVISION
from crfnet.checkpoints.layouts.vainf import VAINF
from crfnet.errors import InputError
from crfnet.files.weight_files import read_weights

__all__ = ["LAYOUTS", "Imported", "Layout", "State", "import_state", "import_tflite", "read_weights"]

LAYOUTS: tuple[Layout, ...] = (KAZUTO, TORCHVISION, VAINF, JFZHANG)


def import_state(
    state: State,
    *,
    output_stride: int | None = None,
    num_classes: int | None = None,
    rates: Sequence[int] | None = None,
) -> Imported:
    """What a foreign state dict is, with its weights by our names.

    Args:
        state: a state dict, as of `read_weights`.
        output_stride: 8 or 16, where the layout leaves it open; None for the original's default.
        num_classes: another number of classes than the file's, whose classifiers then start anew; None for
            the file's.
        rates: dilations of the 3x3 branches of ASPP, which are in no file; None for the original's default.

    Returns:
        Weights that fit the model of its ``config`` exactly: names, shapes and number.

    Raises:
        InputError: no layout that is known, a network of it that cannot be expressed, or weights that are
            missing or of another shape; one line.
    """
    if output_stride not in (None, 8, 16):
        raise InputError(f"output stride: {output_stride}, must be 8 or 16")
    if rates is not None and (not rates or min(rates) < 1):
        raise InputError(f"rates: {list(rates)}, must be numbers of at least 1")
    names = list(state)
    layout = next((layout for layout in LAYOUTS if layout.recognizes(names)), None)
    if layout is None:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise InputError(
            f"no DeepLab layout that is known ({known}): it has {len(names)} weights, {names[0]} first"
        )
    imported = layout.convert(state, output_stride)
    if rates is not None:
        imported = imported.with_rates(rates)
    return check_fits(imported).with_classes(num_classes)
