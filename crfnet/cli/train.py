"""``crfnet train``: one stage of training, in one process or in those that torchrun started."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crfnet.cli.parser import SEED, add_run_command
from crfnet.cli.shared import check_apart, load
from crfnet.errors import InputError

if TYPE_CHECKING:
    from crfnet.data import SegmentationDataset
    from crfnet.pipeline.run_config import Run
    from crfnet.segmenter import RefinementConfig

__all__ = ["add_parser", "run"]

_LOG = logging.getLogger("crfnet")


def add_parser(commands: Any) -> None:
    """``train``."""
    summary = "train the network alone, or network and CRF together"
    parser = add_run_command(commands, "train", summary, resume=True, keys=SEED)
    parser.add_argument("--stage", choices=("unary", "joint"), default="unary", help="default: unary")
    parser.add_argument(
        "--checkpoint", metavar="CKPT", type=Path, help="start from these weights (stage joint needs them)"
    )
    parser.add_argument(
        "--crf", metavar="YAML", type=Path, help="stage joint: start the CRF from a search's best.yaml"
    )


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Train the network alone, or network and CRF together."""
    from crfnet.data import load_dataset
    from crfnet.pipeline.build import build_run_segmenter
    from crfnet.pipeline.run_folder import open_run
    from crfnet.training import check_training, train

    run = load(options, overrides)
    folder = run.output / options.stage / "train"
    check_apart(options, run, folder)
    joint = options.stage == "joint"
    going_on = options.resume and (folder / "checkpoint.pt").is_file()
    if joint and options.checkpoint is None and not going_on:
        raise InputError("train --stage joint starts from a trained network: give --checkpoint CKPT")
    if options.crf is not None and not joint:
        raise InputError("train --crf: only --stage joint trains a CRF")
    config = run.joint if joint else run.train
    dataset = load_dataset(run.data, "train")
    validation = load_dataset(run.data, "val") if config.validate_every else None
    crf = _behind(options.crf, run) if joint else None
    model = build_run_segmenter(run, dataset.num_classes, options.checkpoint, crf)
    check_training(model, dataset, config, validation)
    digests = _digests(options, dataset, validation)
    if options.resume and not going_on and options.checkpoint is None:
        _refuse_another_start(folder)
    run = replace(run, output=folder)
    how = {"resume": options.resume, "overwrite": options.overwrite, "command": command}
    with open_run(run, digests=digests, **how):
        result = train(
            model,
            dataset,
            config,
            run.output,
            seed=run.seed,
            validation=validation,
            resume=options.resume,
        )
    return f"checkpoint: {result.path}"


def _refuse_another_start(folder: Path) -> None:
    """A run that was killed before its first checkpoint begins again, with the weights that it began with."""
    from crfnet.pipeline.digests import started_from_weights

    if started_from_weights(folder):
        raise InputError(f"{folder}: was begun with --checkpoint and has none of its own yet: give it again")


def _behind(path: Path | None, run: "Run") -> "RefinementConfig":
    """What is trained behind the network: the config's CRF, or what a search found of one or the other."""
    from crfnet.crf.config import CRFConfig
    from crfnet.pipeline.build import load_refinement, warm_start

    if path is None:
        return run.crf
    searched = load_refinement(path)
    return warm_start(run.crf if isinstance(searched, CRFConfig) else run.domain_transform, searched)


def _digests(
    options: Namespace, dataset: "SegmentationDataset", validation: "SegmentationDataset | None"
) -> dict[str, str]:
    """Of all that decides the weights, beside the configuration; reads every sample once."""
    from crfnet.distributed import on_rank_zero
    from crfnet.pipeline.digests import START, file_digest, weights_digest

    found: dict[str, str] = {}
    checked = {"training": on_rank_zero(lambda: dataset.check("train"))}
    if validation is not None:
        checked["validation"] = on_rank_zero(lambda: validation.check("val"))
        on_rank_zero(lambda: _warn_of_shared_images(dataset, validation))
    for split, digest in checked.items():
        found |= {f"{split} images": digest.images, f"{split} labels": digest.labels}
    if options.checkpoint is not None:
        found[START] = on_rank_zero(lambda: weights_digest(options.checkpoint))
    if options.crf is not None:
        found["parameters of the CRF"] = on_rank_zero(lambda: file_digest(options.crf))
    return found


def _warn_of_shared_images(dataset: "SegmentationDataset", validation: "SegmentationDataset") -> None:
    """Images that the best network would be chosen on although it has learned them."""
    from crfnet.data import shared_images, shared_images_line

    shared = shared_images(validation, validation.ids, dataset.image_digests.values())
    if line := shared_images_line(shared, len(validation), "validation images", "trained on"):
        _LOG.warning("%s", line)
