"""Commands in children of this process, which has imported all already: many more in the same time."""

import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from subprocess import TimeoutExpired
from typing import NoReturn

from crfnet.cli import COMMANDS
from crfnet.cli.main import main

__all__ = ["Forked", "import_all"]


def import_all() -> None:
    """What commands import when they run."""
    import importlib
    import pkgutil

    import crfnet

    for module in pkgutil.walk_packages(crfnet.__path__, "crfnet."):
        if "__main__" not in module.name and ".gpu" not in module.name and ".explore" not in module.name:
            importlib.import_module(module.name)
    import matplotlib.figure
    import optuna
    import torch.utils.tensorboard

    assert COMMANDS
    assert matplotlib.figure
    assert optuna.storages
    assert torch.utils.tensorboard


class Forked:
    """A command that runs in a child of this process; the part of `subprocess.Popen` that is needed.

    Attributes:
        returncode: its exit status, minus the number of the signal that killed it.
    """

    def __init__(self, words: str, folder: Path) -> None:
        self._words = words
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
        self.returncode = 0
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(words.split(), folder)

    def _run(self, words: list[str], folder: Path) -> NoReturn:
        status: object = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(folder)
            os.dup2(self._said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            main(words)
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status if isinstance(status, int) else 1)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        os.kill(self.pid, number)  # a zombie until `communicate`, so its number is nobody else's

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end; what it wrote to stdout is not kept.

        Raises:
            TimeoutExpired: it still runs.
        """
        until = time.monotonic() + timeout
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > until:
                raise TimeoutExpired(self._words, timeout)
            time.sleep(0.02)
        self.returncode = os.waitstatus_to_exitcode(ended[1])
        self._said.seek(0)
        return "", self._said.read().decode(errors="replace")
