"""Arms of a comparison by choice: their order, what is refused, and a comparison of others than the five."""

import json

import pytest
import yaml

from crfnet.checkpoints.checkpoint import checkpoint_crf, read_checkpoint
from crfnet.cli.main import main
from crfnet.domain_transform import DomainTransformConfig
from crfnet.domain_transform.config_file import load_domain_transform, save_domain_transform
from crfnet.errors import InputError
from crfnet.pipeline.arms import ARMS, FIVE, Arm, described, ordered_arms, stages_of
from crfnet.pipeline.build import build_run_segmenter, load_refinement
from crfnet.pipeline.run_config import dump_run, load_run
from tests.test_cli import CONFIG

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")


def test_what_an_arm_needs_comes_before_it():
    assert list(ordered_arms(["posthoc+"], {})) == ["unary", "unary+", "posthoc+"]
    assert list(ordered_arms(["dt_joint"], {})) == ["unary", "dt", "dt_joint"]
    assert list(ordered_arms(FIVE, {})) == ["unary", "posthoc", "joint", "unary+", "posthoc+"]


def test_stages_that_an_arm_took():
    assert stages_of("unary", ARMS) == (("unary",), ())
    assert stages_of("posthoc", ARMS) == (("unary",), ("posthoc",))
    assert stages_of("joint", ARMS) == (("unary", "joint"), ("posthoc",))
    assert stages_of("posthoc+", ARMS) == (("unary", "unary+"), ("posthoc+",))
    longer = {**ARMS, "joint2": Arm("joint", "joint", "crf", parameters="config")}
    assert stages_of("joint2", longer) == (("unary", "joint", "joint2"), ("posthoc",))


@pytest.mark.parametrize(
    ("arms", "own", "said"),
    [
        (["a"], {"a": Arm("b"), "b": Arm("a", "joint")}, "arms need one another: a -> b -> a"),
        (["nope"], {}, "an arm is 'nope', must be one of unary, posthoc"),
        (["a"], {"a": Arm("nope")}, "an arm that own_arms.a needs is 'nope'"),
        (["unary", "unary"], {}, "one or more names, each once"),
        ([], {}, "one or more names, each once"),
        (["unary"], {"unary": Arm()}, "must be a name that is not built in"),
        (["../x"], {"../x": Arm()}, "must be a name of letters, digits"),
        (["unary_plus"], {"unary_plus": Arm()}, "must be another name"),
        (["x+"], {"x+": Arm(), "x_plus": Arm()}, "must be another name"),
        (
            ["a"],
            {"a": Arm(behind="domain_transform", parameters="posthoc")},
            "searches the parameters of a dom",
        ),
        (["a"], {"a": Arm(behind="crf", parameters="unary")}, "searches the parameters of a crf"),
    ],
)
def test_refused(arms, own, said):
    with pytest.raises(InputError, match=said.replace("+", r"\+")):
        ordered_arms(arms, own)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"network": ""}, "train is ''"),
        ({"behind": "crf"}, "parameters is ''"),
        ({"parameters": "config"}, "parameters is 'config'"),
        ({"train": "joint", "behind": "crf", "parameters": "search"}, "parameters is 'search'"),
    ],
)
def test_rows_that_contradict_themselves(fields, said):
    with pytest.raises(InputError, match=said):
        Arm(**fields)


def test_own_arms_in_a_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("arms: [unary, fixed]\nown_arms: {fixed: {behind: crf, parameters: config}}\n")
    run = load_run(path)
    assert run.own_arms == {"fixed": Arm(behind="crf", parameters="config")}
    path.write_text(dump_run(run))
    assert load_run(path) == run
    path.write_text("own_arms: {fixed: {behind: crf}}\n")
    with pytest.raises(InputError, match=r"own_arms.fixed.parameters is ''"):
        load_run(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3", "own_arms is 3, must be names with their sections"),
        ("[a]", "own_arms is ['a'], must be names with their sections"),
        ("{a: 3}", "own_arms.a is 3, must be keys with their values"),
        ("{a: null}", "own_arms.a is None, must be keys with their values"),
        (
            "{a: {nope: 1}}",
            "unknown key own_arms.a.nope (known: network, train, behind, parameters, control)",
        ),
        ("{a: {networks: unary}}", "unknown key own_arms.a.networks; did you mean own_arms.a.network?"),
        ("{a: {network: 3}}", "own_arms.a.network is 3, must be text"),
        ("{a: {train: x}}", "own_arms.a.train is x, must be one of '', train, joint"),
        ("{a: {control: x}}", "own_arms.a.control is x, must be a list of texts"),
        ("{a: {behind: null}}", "own_arms.a.behind is null, must be left out"),
        ("{a: {config: /etc/passwd}}", "unknown key own_arms.a.config"),
        ("{a: {__path__: x}}", "unknown key own_arms.a.__path__"),
        ("{3: {network: unary}}", "a name in own_arms is 3, must be text"),
    ],
)
def test_wrong_rows_in_a_file_and_on_the_command_line(text, said, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"own_arms: {text}\n")
    with pytest.raises(InputError) as found:
        load_run(path)
    assert said in str(found.value)
    with pytest.raises(InputError, match="own_arms"):
        load_run(None, ["--own_arms", text])


def test_learned_edges_that_nothing_learns_are_refused():
    learned = ["--domain_transform.edges", "learned", "--domain_transform.layers", "[backbone]"]
    own = ["--own_arms", "{a: {behind: domain_transform, parameters: config}}", "--arms", "[a]"]
    with pytest.raises(InputError, match=r"own_arms.a.train is '', must be given where .* is learned"):
        load_run(None, [*learned, *own])
    load_run(None, own)
    load_run(None, [*learned, *own, "--own_arms.a.train", "joint"])


def test_rows_on_the_command_line(tmp_path):
    run = load_run(None, ["--own_arms", "{a: {control: [unary]}}", "--own_arms.b", "{train: joint}"])
    assert run.own_arms == {"a": Arm(control=("unary",)), "b": Arm(train="joint")}


def test_what_an_arm_is_in_words():
    assert described(ARMS["joint"]) == (
        "the network of unary; trained as the section joint says; crf behind it, parameters: posthoc; "
        "controls: unary+, posthoc+"
    )
    assert described(ARMS["unary"]) == "a network of its own; trained as the section train says"


def test_a_file_of_either_is_read(tmp_path):
    config = DomainTransformConfig(sigma_s=12.5, sigma_r=33.0)
    save_domain_transform(tmp_path / "dt.yaml", config, ["found"])
    assert load_domain_transform(tmp_path / "dt.yaml") == load_refinement(tmp_path / "dt.yaml") == config
    (tmp_path / "crf.yaml").write_text("crf: {w1: 7.0}\n")
    assert load_refinement(tmp_path / "crf.yaml").w1 == 7.0


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison with domain transforms, of searched widths and of learned edges, and an own arm."""
    root = tmp_path_factory.mktemp("arms")
    config = {
        **CONFIG,
        "arms": ["unary", "dt", "dt_joint", "fixed"],
        "own_arms": {"fixed": {"behind": "crf", "parameters": "config", "control": ["dt"]}},
        "domain_transform": {"edges": "learned", "layers": ["backbone"], "learn_sigma": True},
        "domain_transform_search": {"sigma_s": [2.0, 8.0], "sigma_r": [30.0], "rounds": 2},
    }
    (root / "run.yaml").write_text(yaml.safe_dump(config))
    main(["compare", str(root / "run.yaml"), "--output", str(root / "out")])
    return root


def test_other_arms_than_the_five(compared):
    report = json.loads((compared / "out/report.json").read_text())
    assert [arm["name"] for arm in report["arms"]] == ["unary", "dt", "dt_joint", "fixed"]
    assert report["arms"][1]["crf"].keys() == {"sigma_s", "sigma_r", "edges", "iterations"}
    assert report["arms"][2]["crf"]["edges"] == "learned"
    assert not (compared / "out/posthoc").exists()
    text = (compared / "out/report.md").read_text()
    assert "controls: dt" in text
    assert "with a domain transform of searched widths" in text


def test_learned_edges_are_trained_and_kept(compared):
    checkpoint = compared / "out/dt_joint/train/checkpoint.pt"
    state = read_checkpoint(checkpoint)["model"]
    assert {"crf.log_sigma_s", "crf.log_sigma_r", "crf.edge_net.predict.weight"} <= state.keys()
    crf = checkpoint_crf(checkpoint)
    assert isinstance(crf, DomainTransformConfig)
    assert crf.layers == ("backbone",)
    run = load_run(compared / "run.yaml")
    start = build_run_segmenter(run, 6, None, crf).edge_net.state_dict()  # of the same seed
    for name, value in start.items():
        assert (state[f"crf.edge_net.{name}"] - value).abs().max() > 1e-7, name
    searched = load_domain_transform(compared / "out/dt/search/best.yaml")
    assert crf.sigma_s == searched.sigma_s


def test_a_comparison_that_begins_with_a_checkpoint(compared, capsys):
    given = str(compared / "out/unary/train/checkpoint.pt")
    command = ["compare", str(compared / "run.yaml"), "--output", str(compared / "again")]
    main([*command, "--checkpoint", given, "--arms", "unary,dt"])
    assert not (compared / "again/unary/train").exists()
    for path in (compared / "out/unary/predictions").glob("*.png"):
        assert path.read_bytes() == (compared / "again/unary/predictions" / path.name).read_bytes()
    assert "trained before" in (compared / "again/report.md").read_text()
    assert (
        f"--checkpoint {given} --seed" not in (compared / "again/report.md").read_text()
    )  # nothing was trained
    for other in ([], ["--checkpoint", str(compared / "out/dt_joint/train/checkpoint.pt")]):
        with pytest.raises(SystemExit) as stop:
            main([*command, *other, "--arms", "unary,dt", "--resume"])
        assert stop.value.code == 2
        assert "was begun with other weights to start from than there are now" in capsys.readouterr().err
    assert not (compared / "again/unary/train").exists()


def test_searches_of_several_seeds_share_a_database(compared):
    storage = f"sqlite:///{compared / 'shared.db'}"
    for seed in ("0", "1"):
        command = ["compare", str(compared / "run.yaml"), "--arms", "unary,posthoc", "--seed", seed]
        main([*command, "--search.storage", storage, "--output", str(compared / f"shared{seed}")])
    assert (compared / "shared1/posthoc/search/best.yaml").is_file()
    again = [*command, "--search.storage", storage, "--output", str(compared / "shared1"), "--overwrite"]
    main([*again, "--search.w1", "[2, 3]"])


def test_search_and_evaluate_commands(compared, capsys):
    run, out = str(compared / "run.yaml"), str(compared / "commands")
    main(["scores", run, "--output", out, "--checkpoint", str(compared / "out/unary/train/checkpoint.pt")])
    plain = ["--domain_transform.edges", "image", "--domain_transform.layers", "[]"]
    main(["search", run, "--output", out, "--scores", f"{out}/scores", "--domain-transform", *plain])
    best = compared / "commands/search_domain_transform/best.yaml"
    found = best.read_bytes()
    best.unlink()  # as after a kill
    again = ["search", run, "--output", out, "--scores", f"{out}/scores", "--domain-transform", "--resume"]
    main([*again, *plain])
    assert best.read_bytes() == found
    with pytest.raises(SystemExit):
        main([*again, *plain, "--domain_transform_search.rounds", "1"])
    assert "domain_transform_search.rounds was 2, now it is 1" in capsys.readouterr().err
    assert isinstance(load_refinement(best), DomainTransformConfig)
    main(["evaluate", run, "--output", out, "--scores", f"{out}/scores", "--crf", str(best)])
    report = json.loads((compared / "commands/evaluation/report.json").read_text())
    assert report["arms"][1]["crf"]["edges"] == "image"
