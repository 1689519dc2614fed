"""Why a CRF is no part of an exported model, said before an exporter fails somewhere inside."""

import torch

from crfnet.errors import InputError

__all__ = ["NO_EXPORT", "is_exporting", "refuse_export"]

NO_EXPORT = (
    "a dense CRF cannot be exported (torch.export, torch.jit, ONNX): it builds a lattice of every image. "
    "Export the network alone, with `crfnet export` or from Segmenter(network), and apply the CRF to its "
    "logits: DenseCRF(num_classes)(logits, image)"
)


def is_exporting() -> bool:
    """Whether torch.export, torch.jit or torch.onnx records what runs; torch.compile does not count."""
    exporting = getattr(torch.compiler, "is_exporting", None)  # torch 2.7
    recorded = torch._C._get_tracing_state() is not None or torch.onnx.is_in_onnx_export()
    return bool(recorded or (exporting is not None and exporting()))


def refuse_export() -> None:
    """Refuse to be part of an exported model.

    Raises:
        InputError: says what to do instead.
    """
    if is_exporting():
        raise InputError(NO_EXPORT)
