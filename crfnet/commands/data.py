"""``data check`` and ``data voc-aug``."""

from argparse import Namespace
from collections.abc import Sequence

from tqdm import tqdm

from crfnet.data import load_dataset
from crfnet.data.check import check_splits
from crfnet.data.voc_aug import build_trainaug
from crfnet.errors import InputError
from crfnet.files import check_writable
from crfnet.pipeline.run_config import load_run

__all__ = ["data_command"]


def data_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet data check`` and ``crfnet data voc-aug``."""
    del command
    if options.action == "voc-aug":
        if overrides:
            raise InputError(f"data voc-aug: {overrides[0]} changes a config, but there is none")
        made = build_trainaug(
            options.voc,
            options.sbd,
            expected=options.count,
            overwrite=options.overwrite,
            workers=options.workers,
        )
        return (
            f"trainaug: {made.ids} ids, {made.path}\nmasks: {made.from_voc} of VOC (val's among them), "
            f"{made.from_sbd} of SBD; {made.written} written now"
        )
    if options.output is not None:
        check_writable(options.output, file=True)
    config = load_run(options.config, overrides).data
    train, val = load_dataset(config, "train"), load_dataset(config, "val")
    text, problem = check_splits(
        train, val, workers=options.workers, output=options.output, overwrite=options.overwrite
    )
    if problem is None:
        return text
    tqdm.write(text)
    raise InputError(problem)
