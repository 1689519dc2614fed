"""A world for all fuzz tests, with what costs time in every example done once."""

import functools
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from crfnet.commands import common, data, folders, report
from crfnet.pipeline import run_config as config
from crfnet.pipeline.run_config import Run
from tests.fuzz.world import World, remove


def _blank() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, "PNG")
    return stream.getvalue()


def _savefig(figure: Figure, stream, *, format: str, **options) -> None:
    """Nothing drawn, which takes a second a figure; the figures themselves are made."""
    del figure, options
    if format == "svg":
        stream.write('<svg width="2pt" height="2pt"></svg>')
    else:
        stream.write(_blank())


def _read_once(load: Callable[..., Run]) -> Callable[..., Run]:
    """A config is read again only where it, or what it is called with, is another."""
    known: dict[object, Run] = {}

    def load_run(path: Path | None, overrides: Sequence[str] = ()) -> Run:
        text = path.read_bytes() if path is not None and path.is_file() else None
        key = (path, text, tuple(overrides))
        if key not in known:
            known[key] = load(path, overrides)
        return known[key]

    return load_run


@pytest.fixture(scope="package")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, at their first import
        patch.setattr(config, "parser", functools.cache(config.parser))
        for module in (common, data, folders, report):
            patch.setattr(module, "load_run", _read_once(module.load_run))
        patch.setattr(Figure, "savefig", _savefig)
        yield World(tmp_path_factory.mktemp("fuzz") / "world")


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """Whole; and whole again behind the test."""
    yield _world
    remove(_world.out)
    assert _world.now() == _world.digest
