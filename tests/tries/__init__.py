"""Kills, limits and bad surroundings of whole commands: see `tests.tries.__main__`."""
