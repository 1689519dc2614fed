"""``crfnet train``: one stage of training, in one process or in those that torchrun started."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crfnet.cli.parser import add_run_command
from crfnet.cli.shared import load
from crfnet.errors import InputError

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``train``."""
    summary = "train the network alone, or network and CRF together"
    parser = add_run_command(commands, "train", summary, resume=True)
    parser.add_argument("--stage", choices=("unary", "joint"), default="unary", help="default: unary")
    parser.add_argument(
        "--checkpoint", metavar="CKPT", type=Path, help="start from these weights (stage joint needs them)"
    )
    parser.add_argument(
        "--crf", metavar="YAML", type=Path, help="stage joint: start the CRF from a search's best.yaml"
    )


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Train the network alone, or network and CRF together."""
    from crfnet.crf.config_file import load_crf_config
    from crfnet.data import load_dataset
    from crfnet.distributed import on_rank_zero
    from crfnet.pipeline.build import build_run_segmenter, warm_start
    from crfnet.pipeline.run_folder import open_run
    from crfnet.training import check_training, train

    run = load(options, overrides)
    joint = options.stage == "joint"
    if joint and options.checkpoint is None and not options.resume:
        raise InputError("train --stage joint starts from a trained network: give --checkpoint CKPT")
    if options.crf is not None and not joint:
        raise InputError("train --crf: only --stage joint trains a CRF")
    config = run.joint if joint else run.train
    dataset = load_dataset(run.data, "train")
    validation = load_dataset(run.data, "val") if config.validate_every else None
    crf = run.crf if joint else None
    if crf is not None and options.crf is not None:
        crf = warm_start(crf, load_crf_config(options.crf))
    model = build_run_segmenter(run, dataset.num_classes, options.checkpoint, crf)
    check_training(model, dataset, config, validation)
    on_rank_zero(lambda: dataset.check("train"))
    if validation is not None:
        on_rank_zero(lambda: validation.check("val"))
    run = replace(run, output=run.output / options.stage / "train")
    on_rank_zero(lambda: open_run(run, resume=options.resume, overwrite=options.overwrite, command=command))
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
