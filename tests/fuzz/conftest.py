"""The fixture tree of all fuzz tests, with what costs time in every example done once."""

import functools
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from crfnet.config import reader
from crfnet.pipeline import rewrite_report, run_config
from crfnet.pipeline.run_config import Run
from tests.fuzz.fixture_tree import FixtureTree, remove


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
def _fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FixtureTree]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, at their first import
        patch.setattr(reader, "schema", functools.cache(reader.schema))
        patch.setattr(reader, "_parser", functools.cache(reader._parser))
        for module in (run_config, rewrite_report):
            patch.setattr(module, "load_run", _read_once(module.load_run))
        patch.setattr(Figure, "savefig", _savefig)
        yield FixtureTree(tmp_path_factory.mktemp("fuzz") / "fixtures")


@pytest.fixture
def fixtures(_fixtures: FixtureTree) -> Iterator[FixtureTree]:
    """The tree, whole; and whole again after the test."""
    yield _fixtures
    remove(_fixtures.out)
    assert _fixtures.now() == _fixtures.digest
