"""Variants own their parameters: set from Python, YAML and the command line, and never by another's name."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from crfnet.config.reader import parser
from crfnet.config.schema import homes, schema, why_gone
from crfnet.config.variants import check_choices, free, free_keys, section, to_plain, variant
from crfnet.crf import CRFConfig, DenseCRF, FrankWolfe, MeanField
from crfnet.crf.config_file import load_crf_config, save_crf_config
from crfnet.crf.filters import FILTERS, ExactFilter, LocalFilter, PermutohedralFilter
from crfnet.crf.inference import INFERENCES
from crfnet.errors import InputError
from crfnet.models import DeepLabV3PlusConfig
from crfnet.pipeline.run_config import Run, dump_run, load_run
from crfnet.search import SearchConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture
def own(monkeypatch):
    """The user's filter and scheme, in the tables for one test."""
    before = dict(FILTERS), dict(INFERENCES)
    import tests.own_variants as module

    FILTERS.update(half=module.HalfFilter)
    INFERENCES.update(slow=module.SlowMeanField)
    yield module
    for table, old in zip((FILTERS, INFERENCES), before, strict=True):
        for name in set(table) - set(old) | {"half", "slow"}:
            table.pop(name, None)


def test_an_own_filter_and_scheme_from_yaml_and_from_the_command_line(own, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "crf: {filter: half, half: {alpha: 0.25, window: 9}, inference: slow, slow: {window: 0.75}}\n"
    )
    crf = load_run(path).crf
    assert crf.filter == own.HalfFilter(alpha=0.25, window=9)
    assert crf.inference == own.SlowMeanField(window=0.75)
    crf = load_run(path, ["--crf.half.alpha", "2", "--crf.slow.window=1", "--crf.slow.eps", "0.5"]).crf
    assert crf.filter == own.HalfFilter(alpha=2.0, window=9)
    assert crf.inference == own.SlowMeanField(window=1.0, eps=0.5)
    with pytest.raises(InputError, match=r"crf\.half\.tolerance is 0\.5, must be one of low, high"):
        load_run(path, ["--crf.half.tolerance", "0.5"])
    save_crf_config(tmp_path / "best.yaml", crf)
    assert load_crf_config(tmp_path / "best.yaml") == crf
    text = " ".join(parser(Run, "crfnet config").format_help().split())
    assert "--crf.half.alpha ALPHA what the features are multiplied with" in text


def test_an_own_filter_and_scheme_run_in_the_layer(own):
    logits, image = torch.randn(1, 3, 5, 6), 255 * torch.rand(1, 3, 5, 6)
    changes = {"filter": own.HalfFilter(alpha=1.0), "inference": own.SlowMeanField(window=1.0)}
    mine = DenseCRF.preset("deeplab", 3, **changes).eval()
    exact = DenseCRF.preset("deeplab", 3, filter=ExactFilter(0.0)).eval()
    with torch.no_grad():
        torch.testing.assert_close(mine(logits, image), exact(logits, image), rtol=1e-4, atol=1e-4)
        other = DenseCRF.preset("deeplab", 3, filter="half", inference="slow").eval()(logits, image)
    assert (other - exact(logits, image)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("tests", "chosen"),
    [
        ("tests/crf/test_filters.py", "half"),
        ("tests/crf/test_inference.py", "slow or SlowMeanField"),
        ("tests/explore/test_page.py", "own_parameters"),
    ],
)
def test_the_tests_of_the_axes_take_them_as_they_are(tests, chosen):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.with_own_variants", tests, "-k", chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout


def test_python_takes_instances_and_names():
    assert CRFConfig(filter="local").filter == LocalFilter()
    assert CRFConfig(filter=LocalFilter(window=5), inference="frank_wolfe").inference == FrankWolfe()
    with pytest.raises(InputError, match=r"crf\.filter is 'lokal', must be one of auto, exact, local"):
        CRFConfig(filter="lokal")
    crf = DenseCRF.preset("deeplab", 2, filter=ExactFilter(eps=1e-4))
    assert crf.filter == ExactFilter(eps=1e-4)
    assert crf.config_now().filter == crf.filter


def test_no_parameter_reaches_another_variant(tmp_path):
    run = load_run(None, ["--crf.filter", "exact", "--crf.exact.eps", "0.001"])
    assert run.crf.filter == ExactFilter(eps=1e-3)
    assert load_run(None, ["--crf.filter", "auto"]).crf.filter == FILTERS["auto"]()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crf: {local: {window: 5}}", "crf.local.window is given, but crf.filter is permutohedral, which"),
        ("crf: {filter: exact, local: {window: 5}}", "crf.local.window is given, but crf.filter is exact"),
        ("crf: {frank_wolfe: {alpha: 0.5}}", "crf.frank_wolfe.alpha is given, but crf.inference is mean_fi"),
        ("crf: {filter: local, local: {window: 4}}", "crf.local.window is 4, must be odd and >= 1"),
        (
            "crf: {filter: local, local: {windo: 5}}",
            "unknown key crf.local.windo; did you mean crf.local.win",
        ),
        ("crf: {filter: local, local: 5}", "crf.local is 5, must be keys with their values"),
        ("crf: {window: 5}", "crf.window has moved: write crf.local.window"),
        ("crf: {rows: 5}", "crf.rows has moved: write crf.auto.rows or crf.permutohedral.rows"),
        ("crf: {damping: 0.5}", "crf.damping has moved: write crf.mean_field.damping"),
        ("crf: {alpha: 0.5}", "crf.alpha has moved: write crf.frank_wolfe.alpha"),
        (
            "model: {head: aspp_l}",
            "model.head has moved: write model.deeplab_v1.head or model.deeplab_v2",
        ),
        ("model: {stride_on: 1x1}", "model.stride_on has moved: write model.resnet.stride_on"),
        ("model: {vgg_pools: 2x2}", "model.vgg_pools has moved: write model.vgg.pools"),
        ("model: {vgg: {pools: 2x2}}", "model.vgg.pools is given, but model.backbone is resnet101"),
        (
            "model: {variant: deeplab_v3, deeplab_v2: {head: aspp_s}}",
            "model.deeplab_v2.head is given",
        ),
        ("data: {toy_train: 3}", "data.toy_train has moved: write data.toy.train"),
        ("data: {name: voc, toy: {train: 3}}", "data.toy.train is given, but data.name is voc"),
        ("search: {trimap_width: 3}", "search.trimap_width has moved: write search.trimap.width"),
        ("search: {tolerance: 0.5}", "search.tolerance is 0.5, must be in [0, 0.5)"),
        ("search: {trials: 3}", "search.trials has moved: write search.random.trials or search.tpe.trials"),
        ("search: {criterion: trimap, trimap: {width: 0}}", "search.trimap.width is 0, must be >= 1"),
    ],
)
def test_a_wrong_place_is_one_line_that_names_the_right_one(tmp_path, text, said):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_run(path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)
    if text.startswith("crf"):
        with pytest.raises(InputError) as again:
            load_crf_config(path)
        assert str(again.value) == str(caught.value)


def test_another_choice_on_the_command_line_drops_the_section_of_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "crf: {filter: local, local: {window: 5}}\n"
        "model: {variant: deeplab_v2, deeplab_v2: {head: aspp_s}, backbone: resnet18,\n"
        "  resnet: {ceil_mode: false}}\n"
    )
    run = load_run(path, ["--crf.filter", "exact", "--model.variant", "deeplab_v3plus"])
    assert run.crf.filter == ExactFilter()
    assert run.model.variant == DeepLabV3PlusConfig()
    assert not run.model.resnet.ceil_mode
    run = load_run(path, ["--crf.local.pool", "2", "--model.backbone", "vgg16"])
    assert run.crf.filter == LocalFilter(window=5, pool=2)
    assert run.model.variant.head == "aspp_s"
    with pytest.raises(InputError, match=r"crf\.exact\.eps is given, but crf\.filter is local"):
        load_run(path, ["--crf.exact.eps", "0.1"])


def test_what_is_written_has_the_chosen_sections_alone_and_reads_back(tmp_path):
    changes = ["--crf.filter", "local", "--model.variant", "deeplab_v3plus", "--search.sampler", "tpe"]
    run = load_run(None, [*changes, "--model.deeplab_v3plus.output_stride", "8"])
    path = tmp_path / "run.yaml"
    path.write_text(dump_run(run))
    assert load_run(path) == run
    plain = to_plain(run)
    assert plain["crf"]["local"] == {"window": 11, "pool": 1, "centered": False}
    assert {"exact", "frank_wolfe"}.isdisjoint(plain["crf"])
    assert plain["model"]["deeplab_v3plus"]["output_stride"] == 8
    assert "vgg" not in plain["model"]
    assert "tpe" in plain["search"]
    assert "random" not in plain["search"]


def test_help_explains_every_key_of_every_variant():
    text = " ".join(parser(Run, "crfnet config").format_help().split())
    for table, place in ((FILTERS, "crf"), (INFERENCES, "crf")):
        for name, kind in table.items():
            for field in dataclasses.fields(kind):
                _, found, rest = text.partition(f"--{place}.{name}.{field.name} ")
                assert found, (name, field.name)
                assert not rest.split("(type")[0].strip().isupper(), (name, field.name)  # a text behind it


@dataclass(frozen=True)
class Circle:
    """A circle.

    Attributes:
        size: its radius.
    """

    size: float = 1.0


@dataclass(frozen=True)
class Square:
    """A square.

    Attributes:
        size: its side.
    """

    size: float = 2.0


@dataclass(frozen=True)
class Edge:
    """An edge.

    Attributes:
        width: pixels.
    """

    width: int = 1


@dataclass(frozen=True)
class Drawing:
    """A drawing.

    Attributes:
        shape: what is drawn.
        filled: whether it has no edge.
        edge: of what is not filled.
        memory: for how long.
    """

    shape: Circle | Square | str = variant({"circle": Circle, "square": Square}, "circle")
    filled: bool = False
    edge: Edge = section(Edge, "filled", (False,))
    memory: int = free(3)

    def __post_init__(self) -> None:
        check_choices(self, "drawing.")


def test_one_mechanism_for_every_axis():
    assert Drawing(shape="square").shape == Square()
    assert to_plain(Drawing(Square(3.0), filled=True)) == {
        "shape": "square",
        "square": {"size": 3.0},
        "filled": True,
        "memory": 3,
    }
    assert free_keys(Drawing) == {"memory"}
    assert homes(Drawing, "size") == ["circle.size", "square.size"]
    assert homes(Drawing, "edge_width") == ["edge.width"]
    assert homes(Drawing, "color") == []
    assert homes(Drawing, "nowhere.size") == []


def test_what_a_section_says_of_keys_that_are_gone(monkeypatch):
    monkeypatch.setattr(SearchConfig, "gone", {"shortcut": "every pixel is taken"}, raising=False)
    assert why_gone(Run, "search.shortcut") == "every pixel is taken"
    assert why_gone(Run, "crf.shortcut") == why_gone(Run, "nowhere.shortcut") == ""
    with pytest.raises(InputError, match=r"search\.shortcut is gone: every pixel is taken"):
        load_run(None, ["--search.shortcut", "1"])


def test_names_that_stand_for_two_things_are_refused():
    @dataclass(frozen=True)
    class Twice:
        shape: Circle | str = variant({"circle": Circle}, "circle")
        circle: int = 3

    with pytest.raises(TypeError, match="circle is the name of two fields or variants"):
        schema(Twice)


def test_what_changes_no_result_says_so_at_its_field():
    keys = free_keys(Run)
    assert {"seed", "title", "output", "device", "pictures", "data.root"} <= keys
    assert {"search.storage", "search.study", "search.workers", "train.workers", "joint.workers"} <= keys
    assert {"crf.memory", "train.log_every", "train.validate_every"} <= keys
    assert not {"crf.w1", "train.iterations", "search.images", "train.lr", "evaluation.seed"} & keys
    assert replace(CRFConfig(), filter=PermutohedralFilter(3)).filter == PermutohedralFilter(3)
    assert CRFConfig(inference=MeanField(damping=0.5)) != CRFConfig()
