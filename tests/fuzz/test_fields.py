"""Each field of each file that crfnet writes and reads again holds something else: told in a line, or right.

Direct calls of the readers, with what goes on with what they read; `tests.fuzz.test_results` runs commands.
``--log-cli-level=INFO`` shows how many values were tried in each file.
"""

import dataclasses
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from torch.amp.grad_scaler import GradScaler

from crfnet.checkpoints.checkpoint import Checkpoint, read_checkpoint
from crfnet.crf import DenseCRF
from crfnet.crf.config_file import load_crf_config
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.files import RECORD, recorded_files, recording, remove_recorded_files
from crfnet.pipeline.build import build_run_segmenter
from crfnet.pipeline.digests import check_digests
from crfnet.pipeline.evaluate_split import read_ids
from crfnet.pipeline.run_config import load_run
from crfnet.pipeline.run_folder import run_stage
from crfnet.report.arms import ArmResult
from crfnet.report.energy_curves import read_energy_traces
from crfnet.report.report_json import ReportInputs, read_report_json
from crfnet.report.training_curves import read_training_log
from crfnet.score_cache import ScoreFolder
from crfnet.score_cache.metadata import ScoreMetadata
from crfnet.search import search
from crfnet.search.images import draw_images
from crfnet.training.optim import build_optimizer
from crfnet.training.run_logger import RunLogger
from crfnet.training.save_and_resume import CheckpointSaver
from tests.fuzz.fields import columns, dumped, fields, loaded, set_column, with_value, wrong_values
from tests.fuzz.fixture_tree import CLASSES, FixtureTree
from tests.fuzz.harness import guarded

log = logging.getLogger(__name__)

PARTS = 12  #: of the values; a test takes one of them where all tests run

Reader = Callable[[FixtureTree, Path], object]


def resumed(fixtures: FixtureTree, path: Path) -> None:
    """Training goes on from a checkpoint, for a step."""
    run = load_run(fixtures.config)
    model = build_run_segmenter(run, CLASSES, None, None)
    optimizer = build_optimizer(model, run.train)
    settings = read_checkpoint(fixtures.root / "trained/checkpoint.pt")["settings"]
    saver = CheckpointSaver(path.parent, settings, model, optimizer, GradScaler("cpu", enabled=False))
    saver.resume()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def scores(fixtures: FixtureTree, path: Path) -> None:
    del fixtures
    folder = ScoreFolder(path.parent)
    assert folder.logits("a", (16, 20)).isfinite().all()


def crf(fixtures: FixtureTree, path: Path) -> None:
    """A file of CRF parameters, used."""
    del fixtures
    config = dataclasses.replace(load_crf_config(path), iterations=1)
    with torch.no_grad():
        found = DenseCRF(3, config).eval()(torch.randn(1, 3, 8, 9), torch.rand(1, 3, 8, 9) * 255)
    assert found.isfinite().all()


def record(fixtures: FixtureTree, path: Path) -> None:
    """The list of our files: others are never removed, whatever it says."""
    del fixtures
    folder = path.parent.parent
    other = folder / "other"
    other.write_text("mine")
    with recording(folder):
        assert other not in recorded_files(folder)
        remove_recorded_files(folder)
    assert other.read_text() == "mine"


def logged(fixtures: FixtureTree, path: Path) -> None:
    del fixtures
    read_training_log(path)
    with RunLogger(path.parent, 1, 2, 1):
        pass


def config(fixtures: FixtureTree, path: Path) -> None:
    del fixtures
    load_run(path)


#: By the file's place in a copy of the fixture tree's folder: what reads it, and what declares its fields.
FILES: dict[str, tuple[Reader, tuple[type, ...]]] = {
    "trained/checkpoint.pt": (resumed, (Checkpoint,)),
    "trained/log.jsonl": (logged, ()),
    "trained/run.json": (lambda f, path: run_json(path), ()),
    "trained/digests.json": (lambda f, path: check_digests(path.parent, {"training images": "x"}, ""), ()),
    f"trained/{RECORD}/files": (record, ()),
    "scores/scores.yaml": (scores, (ScoreMetadata,)),
    "search/best.yaml": (crf, ()),
    "search/images.txt": (lambda f, path: read_ids(load_dataset(load_run(f.config).data, "val"), path), ()),
    "evaluation/report.json": (lambda f, path: read_report_json(path.parent), (ReportInputs, ArmResult)),
    "evaluation/config.yaml": (config, ()),
    "evaluation/unary/evaluation.npz": (lambda f, path: read_report_json(path.parents[1]), ()),
    "evaluation/posthoc/energy/energy.csv": (lambda f, path: read_energy_traces(path), ()),
    "stage/stage.json": (lambda f, path: run_stage(path.parent, dict), ()),
}


def run_json(path: Path) -> None:
    from crfnet.pipeline.run_folder import _read_json

    _read_json(path)


def original(fixtures: FixtureTree, name: str) -> Path:
    """The file, in a copy of its folder in which anything may happen."""
    folder = name.partition("/")[0]
    shutil.rmtree(fixtures.out, ignore_errors=True)
    if folder == "stage":
        (fixtures.out / folder).mkdir(parents=True)
        (fixtures.out / name).write_text(json.dumps({"seconds": 1.5, "peak_mb": 3.0, "images": 3}))
    else:
        shutil.copytree(fixtures.root / folder, fixtures.out / folder)
    return fixtures.out / name


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "part", [pytest.param(PARTS, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_fields(fixtures, name, part):
    """Told in a line that names the file, or taken."""
    read, _ = FILES[name]
    path = original(fixtures, name)
    tree = loaded(path)
    content, tried = path.read_bytes(), Counter[str]()
    values = [(field, *each) for field in fields(tree) for each in wrong_values(_at(tree, field.place))]
    for field, kind, value in values[::part]:
        path.write_bytes(content)
        try:
            dumped(path, with_value(tree, field, value))
        except (ValueError, TypeError, UnicodeError):  # nobody can write such a file
            continue
        tried[str(field)] += 1
        try:
            said = guarded(fixtures, lambda: _called(read, fixtures, path))
        except BaseException as error:
            raise AssertionError(f"{name}: {field}, {kind}: {type(error).__name__}: {error}") from error
        assert said is None or path.name in said or str(path.parent) in said, f"{field}, {kind}: {said}"
        original(fixtures, name) if not path.parent.is_dir() or not path.exists() else None
    log.info("%s: %d fields, %d values", name, len(tried), tried.total())
    assert tried


def _called(read: Reader, fixtures: FixtureTree, path: Path) -> None:
    read(fixtures, path)


def _at(tree: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        tree = tree[step]
    return tree


@pytest.mark.parametrize("name", [name for name, (_, kinds) in FILES.items() if kinds])
def test_every_declared_field_is_tried(fixtures, name):
    """A field that the fixtures' file lacks would not be fuzzed: then they need one that has it."""
    there = {str(part) for field in fields(loaded(fixtures.root / name)) for part in field.place}
    elsewhere = {"evaluation", "digest"}  # in a file beside it; of folders that a network's scores fill
    for kind in FILES[name][1]:
        assert set(get_type_hints(kind)) - elsewhere <= there


@pytest.mark.parametrize(
    "part", [pytest.param(PARTS, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_columns_of_a_study(fixtures, part):
    """A search whose database holds something else is refused, or ends as it did."""
    run = load_run(fixtures.config)
    dataset = load_dataset(run.data, "val")
    ids = draw_images(dataset.ids, run.search)
    best = load_crf_config(fixtures.root / "best.yaml")
    tried = Counter[str]()

    def resume(folder: Path) -> None:
        found = search(
            dataset,
            ids,
            ScoreFolder(fixtures.root / "scores"),
            run.search,
            folder,
            resume=True,
            device=torch.device("cpu"),
        )
        assert found == best

    for field, cell in columns(fixtures.root / "search/study.db")[::part]:
        folder = original(fixtures, "search/study.db").parent
        if not set_column(folder / "study.db", field, cell):
            continue
        tried[str(field)] += 1
        try:
            said = guarded(fixtures, lambda place=folder: resume(place))
        except BaseException as error:
            raise AssertionError(f"{field} {cell!r:.40}: {type(error).__name__}: {error}") from error
        assert said is None or "study" in said or "search" in said, f"{field} {cell!r:.40}: {said}"
    log.info("study.db: %d columns, %d values", len(tried), tried.total())
    assert tried


def test_the_tables_are_those_of_optuna(fixtures):
    """What a study consists of: more tables would be more columns above."""
    names = {field.place[0] for field, _ in columns(fixtures.root / "search/study.db")}
    assert {"studies", "trials", "trial_user_attributes", "study_user_attributes", "trial_params"} <= names


def test_yaml_of_this_file_is_what_is_read(tmp_path):
    """The fuzzer's own writer: a value in its place, and whole numbers that Python does not show."""
    path = tmp_path / "a.yaml"
    dumped(path, {"a": {"b": [1, 10**5000]}})
    assert yaml.safe_load(path.read_text())["a"]["b"][0] == 1
    with pytest.raises(InputError, match="20000 bits"):
        load_crf_config(path)
