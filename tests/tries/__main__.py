"""Everything that is tried of whole commands, and a row of a table for each.

``python -m tests.tries --kills 20`` kills every command so often with each signal, ``--only HOME`` tries what
has that in its name. CONTRIBUTING.md has what came of it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.tries.forked import import_all
from tests.tries.kills import SIGNALS, kills
from tests.tries.place import COMMANDS, SECONDS, Place
from tests.tries.surroundings import surroundings


def main() -> None:
    """Try everything, or what has a word in its name, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--fork", action="store_true", help="kill children that have imported all already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tries-") as folder:
        if options.fork:
            import_all()
        place = Place(Path(folder), fork=options.fork)
        tries: dict[str, Callable[[], str]] = {
            f"{number.name} x {options.kills}: {name}": lambda name=name, number=number: kills(
                place, name, number, options.kills
            )
            for name in COMMANDS
            for number in SIGNALS
        }
        tries = dict(surroundings(place)) | tries
        for name, attempt in tries.items():
            if options.only in name:
                try:
                    said = attempt()
                except subprocess.TimeoutExpired:
                    said = f"NO END within {SECONDS} s"
                sys.stdout.write(f"| {name} | {said.replace(folder, '')} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
