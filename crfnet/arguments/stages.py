"""Arguments of the commands that run a config: compare, or its stages one by one."""

from pathlib import Path
from typing import Any

from crfnet.arguments.parser import command

__all__ = ["add_compare", "add_config", "add_scores", "add_search", "add_train"]


def add_compare(commands: Any) -> None:
    """``demo`` and ``compare``."""
    summary = "the whole comparison on the built-in toy set: CPU, offline, minutes"
    command(commands, "demo", summary, config=False, resume=True)
    summary = "train, search, train jointly, score all five arms, write one report"
    command(commands, "compare", summary, resume=True)


def add_train(commands: Any) -> None:
    """``train``."""
    summary = "train the network alone, or network and CRF together"
    train = command(commands, "train", summary, resume=True)
    train.add_argument("--stage", choices=("unary", "joint"), default="unary", help="default: unary")
    train.add_argument(
        "--checkpoint", metavar="CKPT", type=Path, help="start from these weights (stage joint needs them)"
    )
    train.add_argument(
        "--crf", metavar="YAML", type=Path, help="stage joint: start the CRF from a search's best.yaml"
    )


def add_scores(commands: Any) -> None:
    """``scores``."""
    summary = "run a trained network over a split and keep its scores for the search"
    scores = command(commands, "scores", summary)
    scores.add_argument("--checkpoint", metavar="CKPT", type=Path, required=True, help="trained weights")
    scores.add_argument("--split", choices=("train", "val"), default="val", help="default: val")


def add_search(commands: Any) -> None:
    """``search``."""
    summary = "cross-validate w1, theta_alpha, theta_beta on cached scores, coarse to fine"
    search = command(commands, "search", summary, resume=True)
    search.add_argument(
        "--scores", metavar="PATH", type=Path, required=True, help="folder of cached scores, or one .npz"
    )


def add_config(commands: Any) -> None:
    """``config``."""
    command(commands, "config", "print a config with every key, or (--help) explain every key")
