"""A command that a signal stops ends with one line and its status, wherever the signal found it."""

import subprocess
import sys

import pytest

#: The command ``config`` with other work: the signal comes where Python drops what its handler raises.
COMMAND = """
import os, signal, sys, time, weakref
from crfnet.cli import COMMANDS
from crfnet.cli.main import main

class Object:
    pass

def work(options, overrides, command):
    kept = Object()
    watch = weakref.ref(kept, lambda _: (os.kill(os.getpid(), signal.{name}), time.sleep(0.1)))
    del kept
    time.sleep(20)
    return "went on"

COMMANDS["config"].run = work
main(["config", "toy.yaml"])
"""

#: The thread that has the signal come again may be faster than what started it.
SLOW = """
import time
from crfnet.cli import signals

come_again = signals._come_again
signals._come_again = lambda *given: (come_again(*given), time.sleep(0.3))
"""


@pytest.mark.parametrize("before", ["", SLOW], ids=["", "slow"])
@pytest.mark.parametrize(
    ("name", "word", "status"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)]
)
def test_a_signal_within_a_callback_is_not_lost(name, word, status, before):
    code = before + COMMAND.replace("{name}", name)
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"crfnet: {word}; "), ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ran.returncode == status
