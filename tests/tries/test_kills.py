"""A few random kills of every command; `python -m tests.tries --kills 20` does many."""

import pytest

from tests.tries.kills import SIGNALS, kills
from tests.tries.place import COMMANDS, Place


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("kills"))


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_killed_ends_in_the_same_result(name, number, place):
    said = kills(place, name, number, 2)
    assert not any(word.isupper() and len(word) > 3 for word in said.split()), said
    assert "same result" in said
