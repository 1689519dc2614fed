"""Damaged configs, CRF parameters and command lines."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from crfnet.crf.config_file import load_crf_config
from crfnet.pipeline.run_config import dump_run, load_run
from tests.fuzz.damage import Damage, damages
from tests.fuzz.fixture_tree import FixtureTree
from tests.fuzz.fuzzing import fuzz, parts
from tests.fuzz.harness import Ending, refused, run
from tests.fuzz.values import WORDS, Change, changes

COUNT = 60  #: of each of five kinds: 300 examples

#: Texts of whole configs.
TEXTS = {
    "nothing": b"",
    "null": b"null\n",
    "list": b"- a\n- b\n",
    "word": b"words",
    "two documents": b"title: a\n---\ntitle: b\n",
    "section twice": b"train:\n  lr: 1\ntrain:\n  lr: 2\n",
    "key twice": b"train: {lr: 1, lr: 2}\n",
    "laughs": b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (b + 1, b + 1, b", ".join([b"*%c" % b] * 10)) for b in range(97, 106)),
    "itself": b"title: &a\n  b: *a\n",
    "merge": b"train: &t {lr: 0.1}\njoint:\n  <<: *t\n",
    "merge of itself": b"train: &t\n  <<: *t\n",
    "merge of a number": b"train:\n  <<: 3\n",
    "deep": b"title: " + b"[" * 3000 + b"]" * 3000,
    "deep mapping": b"".join(b" " * i + b"a:\n" for i in range(900)),
    "tag": b"title: !!python/object/apply:os.system ['touch trap']\n",
    "number as key": b"1: 2\nnull: 3\ntrue: 4\n",
    "list as key": b"[a, b]: 1\n",
    "mapping as key": b"{a: b}: 1\n",
    "dotted key": b"train.lr: 0.5\n",
    "config": b"config: run.yaml\n",
    "utf-16": "title: a\n".encode("utf-16"),
    "latin-1": "title: \u00e4\n".encode("latin-1"),
    "nul": b"title: a\0b\n",
    "tabs": b"train:\n\tlr: 1\n",
    "sections": b"train: 3\nmodel: [1]\ndata: x\n",
    "number as section": b"evaluation: true\n",
    "number as inner section": b"train:\n  augment: 3\n",
}


def check(ending: Ending) -> None:
    """What is printed is a config that comes to the same."""
    if ending.status == 0:
        again = yaml.safe_load(ending.out)
        assert {"title", "output", "seed", "data", "model", "train"} <= set(again)


@parts
def test_bytes(fixtures, part):
    def example(damage: Damage) -> None:
        with fixtures.damaged(fixtures.config) as path:
            damage.apply(path, TEXTS)
            check(run(fixtures, ["config", path], [path.name]))

    fuzz(example, damages(TEXTS), COUNT, part)
    for each in TEXTS if part == 1 else ():
        example(Damage(each))


@parts
def test_values(fixtures, part):
    whole = yaml.safe_load(dump_run(load_run(fixtures.config)))

    def example(change: Change) -> None:
        with fixtures.damaged(fixtures.config) as path:
            path.write_text(yaml.dump(change.of(whole), sort_keys=False))
            check(run(fixtures, ["config", path], [path.name]))

    fuzz(example, changes(whole), COUNT, part)


def keys(fixtures: FixtureTree) -> list[str]:
    whole = yaml.safe_load(dump_run(load_run(fixtures.config)))
    inner = [f"{name}.{key}" for name, value in whole.items() if isinstance(value, dict) for key in value]
    return [
        *whole,
        *inner,
        "data.nothing",
        "nothing.at.all",
        "train.augment.crop",
        "evaluation.boundary.f_width",
    ]


@parts
def test_texts_of_values(fixtures, part):
    def example(pair: tuple[str, str]) -> None:
        key, word = pair
        with fixtures.damaged(fixtures.config) as path:
            section, _, name = key.partition(".")
            path.write_text(f"{section}:\n  {name}: {word}\n" if name else f"{section}: {word}\n")
            check(run(fixtures, ["config", path], [path.name]))

    fuzz(example, st.tuples(st.sampled_from(keys(fixtures)), st.sampled_from(WORDS)), COUNT, part)


@parts
def test_command_line(fixtures, part):
    """Options behind a command: a bad value, an unknown key, or none at all behind the last."""

    def example(options: list[tuple[str, str, str]]) -> None:
        words = [each for key, sign, word in options for each in _words(key, sign, word)]
        ending = run(fixtures, ["config", fixtures.config, *words])
        check(ending)

    option = st.tuples(
        st.sampled_from(keys(fixtures)), st.sampled_from(("=", " ", "")), st.sampled_from(WORDS)
    )
    fuzz(example, st.lists(option, min_size=1, max_size=2), COUNT, part)


def _words(key: str, sign: str, word: str) -> list[str]:
    return [f"--{key}", word] if sign == " " else [f"--{key}{sign}{word if sign else ''}"]


@parts
def test_parameters_of_the_crf(fixtures, part):
    """A best.yaml, by bytes and by values."""
    whole = yaml.safe_load((fixtures.root / "best.yaml").read_text())
    others = {name: text for name, text in TEXTS.items() if name not in ("merge", "laughs")}
    command = [
        "evaluate",
        fixtures.config,
        "--scores",
        fixtures.root / "scores",
        "--exclude",
        fixtures.root / "images.txt",
    ]

    def example(given: Any) -> None:
        with fixtures.damaged(fixtures.root / "best.yaml") as path:
            if isinstance(given, Damage):
                given.apply(path, others)
            else:
                path.write_text(yaml.dump(given.of(whole), sort_keys=False))
            ending = run(fixtures, [*command, "--crf", path], [path.name])
            if ending.status == 0:
                used = load_crf_config(path)
                assert used.w1 >= 0
                assert math.isfinite(used.theta_beta)

    fuzz(example, st.one_of(damages(others), changes(whole)), COUNT, part)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search.images=-1"], "search.images"),
        (["--train.lr=nan"], "lr"),
        (["--train.lr"], "train.lr"),
        (["--nothing.at.all=1"], "nothing"),
        (["--seed"], "seed"),
        (["--seed=x"], "seed"),
    ],
)
def test_plain_mistakes(fixtures, words, said):
    assert said in refused(fixtures, ["config", fixtures.config, *words])
    assert said in refused(fixtures, ["train", fixtures.config, *words])
