"""A network with its preprocessing as an ONNX file, which other runtimes run; the CRF stays outside."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crfnet.checkpoints.checkpoint import checkpoint_crf, load_model, read_checkpoint
from crfnet.checkpoints.convert import convert_file
from crfnet.crf.config_file import save_crf_config
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import classes_of
from crfnet.domain_transform import DomainTransform
from crfnet.domain_transform.config_file import save_domain_transform
from crfnet.errors import InputError
from crfnet.files import one_line, write_atomically
from crfnet.pipeline.run_config import load_run
from crfnet.segmenter import RefinementConfig, Segmenter, build_segmenter

__all__ = ["ExportedModel", "export_onnx", "model_of_checkpoint"]

_LOG = logging.getLogger(__name__)

#: On which the file must answer as the network does; the last ones are multiples of every stride.
_SIZES = ((97, 129), (65, 80), (130, 67))
_MULTIPLE, _EVEN_SIZES = 32, ((96, 128), (64, 160))
_TOLERANCE = 1e-3  # of the largest logit


@dataclass(frozen=True)
class ExportedModel:
    """An ONNX file, checked.

    Attributes:
        path: of the file.
        difference: largest one between its logits and the network's, relative to the largest logit.
        multiple: of what rows and columns of an image must be; 1 for any size, 0 for ``size`` alone.
    """

    path: Path
    difference: float
    multiple: int


def model_of_checkpoint(
    checkpoint: Path, config: Path | None = None, overrides: Sequence[str] = ()
) -> tuple[Segmenter, RefinementConfig | None]:
    """The network in a checkpoint, in evaluation mode, and what was trained behind it, by its numbers.

    Args:
        checkpoint: of a training run, of ``crfnet import``, or a public one.
        config: of the model; None for the one beside the checkpoint or in a folder above it.
        overrides: of the config.

    Raises:
        InputError: it cannot be read, or there is no config.
    """
    converted = convert_file(checkpoint)
    if converted.config is not None and config is None:
        model = build_segmenter(converted.config, converted.settings["num_classes"])
        model.load_state_dict(converted.model)
        return model.eval(), None
    found = config or _config_of(checkpoint)
    if found is None:
        raise InputError(f"{checkpoint}: does not say its network; give the run's config (--config)")
    run = load_run(found, overrides)
    own = read_checkpoint(checkpoint)
    classes = own["settings"].get("num_classes", len(classes_of(run.data).names))
    crf = checkpoint_crf(checkpoint)
    whole = build_segmenter(run.model.without_weights(), classes, crf, channels=run.data.channels)
    load_model(whole, checkpoint, network_only=crf is None)
    trained = whole.crf.config_now() if isinstance(whole.crf, DenseCRF | DomainTransform) else None
    if whole.edge_net is not None:
        _LOG.warning("the domain transform is left out: its edges need the network's features")
        trained = None
    whole.crf = None
    return whole.eval(), trained


def export_onnx(
    model: Segmenter, path: Path, crf: RefinementConfig | None = None, *, size: tuple[int, int] | None = None
) -> ExportedModel:
    """Write the network with its preprocessing: images (b, c, h, w) in 0..255 to logits at its stride.

    The metadata ``crfnet`` of the file says how they are resized (``align_corners``) and of what rows and
    columns must be a multiple. A CRF is written beside the file, as ``*_crf.yaml``.

    Args:
        model: its CRF is left out.
        path: ends in .onnx.
        crf: the configuration of a CRF or a domain transform.
        size: rows and columns, one size alone; None for every size.

    Raises:
        InputError: it cannot be exported for every size, or answers otherwise than the network.
        ModuleNotFoundError: onnx, onnxscript or onnxruntime is missing.
    """
    import onnx

    network = _Logits(model)
    content = _exported(network, size)
    multiple, difference = _checked(network, content, size)
    about = {"align_corners": model.align_corners, "multiple": multiple, "size": size}
    file = onnx.load_from_string(content)
    onnx.helper.set_model_props(file, {"crfnet": json.dumps(about)})
    write_atomically(path, file.SerializeToString())
    if crf is not None:
        beside, comment = path.with_name(f"{path.stem}_crf.yaml"), ["what stands behind " + path.name]
        if isinstance(crf, CRFConfig):
            save_crf_config(beside, crf, comment)
        else:
            save_domain_transform(beside, crf, comment)
    return ExportedModel(path, difference, multiple)


class _Logits(nn.Module):
    """The part of a segmenter that is exported."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model, self.channels = model, model.mean.numel()

    def forward(self, image: Tensor) -> Tensor:
        return self.model.strided_logits(image)


def _exported(network: _Logits, size: tuple[int, int] | None) -> bytes:
    """The ONNX file of a network."""
    import onnxscript  # noqa: F401 - torch.onnx needs it, and says less

    dynamic = torch.export.Dim.DYNAMIC
    axes = {0: dynamic} if size else {0: dynamic, 2: dynamic, 3: dynamic}
    image = _image(size or _SIZES[0], network.channels)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                network,
                (image,),
                path,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes={"image": axes},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # whatever step of the exporter fails
            hint = "" if size else "; give one size (--size ROWS COLUMNS)"
            raise InputError(
                f"export: this network cannot be exported{'' if size else ' for every size'}{hint} "
                f"({type(error).__name__}: {one_line(error)[:120]})"
            ) from error
        return path.read_bytes()


def _checked(network: _Logits, content: bytes, size: tuple[int, int] | None) -> tuple[int, float]:
    """The multiple that sizes must be, and the largest difference from the network's own logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    tried = [(0, [size])] if size else [(1, list(_SIZES)), (_MULTIPLE, list(_EVEN_SIZES))]
    for multiple, sizes in tried:
        difference = max(_difference(network, session, each) for each in sizes)
        if difference <= _TOLERANCE:
            return multiple, difference
    hint = "" if size else "; give one size (--size ROWS COLUMNS)"
    raise InputError(f"export: the file's logits are not the network's (off by {difference:.2g}){hint}")


def _difference(network: _Logits, session: Any, size: tuple[int, int]) -> float:
    """How far logits of two images are off, relative to the largest; infinity where the runtime fails."""
    image = _image(size, network.channels)
    with torch.no_grad():
        expected = network(image).numpy()
    try:
        (logits,) = session.run(None, {"image": image.numpy()})
    except Exception:  # the runtime has its own for sizes that do not fit
        return float("inf")
    if logits.shape != expected.shape:
        return float("inf")
    return float(np.abs(logits - expected).max() / max(float(np.abs(expected).max()), 1e-6))


def _image(size: tuple[int, int], channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, channels, *size), generator=generator).float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and warnings, which are about its own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _config_of(checkpoint: Path) -> Path | None:
    """The config beside a checkpoint, or that of the run that it lies in."""
    above = list(checkpoint.absolute().parents)[:4]
    candidates = [checkpoint.with_suffix(".yaml"), *(folder / "config.yaml" for folder in above)]
    return next((path for path in candidates if path.is_file()), None)
