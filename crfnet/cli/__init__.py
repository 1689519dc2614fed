"""The command line, a file for each command: `add_parser` says its options, `run` does the work.

A command is one file here and one line in `COMMANDS`; `main` calls it.
"""

from crfnet.cli import (
    compare,
    config,
    convert_scores,
    data,
    evaluate,
    explore,
    export,
    import_checkpoint,
    predict,
    report,
    scores,
    search,
    train,
)
from crfnet.cli.parser import Command

__all__ = ["COMMANDS"]

#: In the order of --help.
COMMANDS: dict[str, Command] = {
    "demo": compare,
    "compare": compare,
    "train": train,
    "scores": scores,
    "search": search,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "convert-scores": convert_scores,
    "import": import_checkpoint,
    "export": export,
    "explore": explore,
    "data": data,
    "config": config,
}
