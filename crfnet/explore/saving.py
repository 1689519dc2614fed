"""Writes the parameters that were found by hand as the YAML file that every command takes with --crf."""

from collections.abc import Sequence
from pathlib import Path

from crfnet.crf.config_file import save_crf_config
from crfnet.domain_transform import DomainTransformConfig
from crfnet.domain_transform.config_file import load_refinement, save_domain_transform
from crfnet.errors import InputError
from crfnet.segmenter import RefinementConfig

__all__ = ["save_crf"]


def save_crf(
    path: Path,
    crf: RefinementConfig,
    head: Sequence[str],
    *,
    folder: Path | None = None,
    replace: bool = False,
) -> None:
    """Write parameters, of a CRF or a domain transform, where a person said, who may have meant another file.

    Args:
        path: a ``.yaml`` or ``.yml`` file in a folder that exists.
        crf: what to write.
        head: lines that say where it comes from.
        folder: below which the file must lie, links followed; None is anywhere.
        replace: whether a file of such parameters may be replaced; any other file is left alone.

    Raises:
        InputError: outside of `folder`, another ending, no such folder, a file that is there already or is
            none of parameters.
    """
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: outside of {folder}, where parameters are saved (explore --output)")
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: the file's name must end in .yaml")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; parameters are saved in one that exists")
    if path.exists():
        if not replace:
            raise InputError(f"{path}: exists already; tick 'replace' or choose another name")
        load_refinement(path)  # raises where that is something else
    if isinstance(crf, DomainTransformConfig):
        save_domain_transform(path, crf, head)
    else:
        save_crf_config(path, crf, head)
