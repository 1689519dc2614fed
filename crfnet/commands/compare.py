"""``demo``, ``compare`` and ``train``."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file, files

from crfnet.commands.common import load, segmenter_of
from crfnet.compare import compare, warm_start
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.run_folder import open_run
from crfnet.search import load_crf_config
from crfnet.training import train

__all__ = ["compare_command", "demo_command", "train_command"]


def demo_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet demo``: the comparison on the built-in toy set."""
    with as_file(files("crfnet") / "demo.yaml") as path:
        options.config = path
        return compare_command(options, overrides, command)


def compare_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet compare``: all five arms, one report."""
    run = load(options, overrides)
    report, table = compare(run, resume=options.resume, overwrite=options.overwrite, command=command)
    return f"\n{table}\n\nreport: {report}, report.html"


def train_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet train``: one stage of training."""
    run = load(options, overrides)
    joint = options.stage == "joint"
    if joint and options.checkpoint is None and not options.resume:
        raise InputError("train --stage joint starts from a trained network: give --checkpoint CKPT")
    if options.crf is not None and not joint:
        raise InputError("train --crf: only --stage joint trains a CRF")
    dataset = load_dataset(run.data, "train")
    crf = run.crf if joint else None
    if crf is not None and options.crf is not None:
        crf = warm_start(crf, load_crf_config(options.crf))
    model = segmenter_of(run, dataset, options.checkpoint, crf)
    dataset.check()
    run = replace(run, output=run.output / options.stage / "train")
    open_run(run, resume=options.resume, overwrite=options.overwrite, command=command)
    config = run.joint if joint else run.train
    result = train(model, dataset, config, run.output, seed=run.seed, resume=options.resume)
    return f"checkpoint: {result.path} ({result.seconds:.0f} s)"
