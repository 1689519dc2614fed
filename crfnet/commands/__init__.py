"""What each command does: a few calls into the library, and the text that is printed at the end.

A command is a function here and a line in `COMMANDS`.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

from crfnet.commands.compare import compare_command, demo_command
from crfnet.commands.data import data_command
from crfnet.commands.evaluate import evaluate_command
from crfnet.commands.predict import explore_command, import_command, predict_command
from crfnet.commands.report import report_command
from crfnet.commands.search import convert_scores_command, scores_command, search_command
from crfnet.commands.train import train_command

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Callable[[Namespace, Sequence[str], str], str]] = {
    "demo": demo_command,
    "compare": compare_command,
    "train": train_command,
    "scores": scores_command,
    "convert-scores": convert_scores_command,
    "search": search_command,
    "evaluate": evaluate_command,
    "report": report_command,
    "predict": predict_command,
    "import": import_command,
    "explore": explore_command,
    "data": data_command,
}
