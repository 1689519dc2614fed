"""One YAML file -> one frozen `Run`. Unknown keys, wrong types and bad values are errors that name the place.

Each section is the dataclass of its owner, so its keys are documented where they are used; ``crfnet config
--help`` prints all.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from crfnet.crf.layer import CRFConfig
from crfnet.data import DataConfig
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.evaluation.inference import PredictConfig
from crfnet.files import one_line, read_yaml, write_atomically
from crfnet.models import ModelConfig
from crfnet.search import SearchConfig
from crfnet.training import TrainConfig

__all__ = ["Run", "dump_run", "load_run", "parser", "save_run", "to_plain"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a command needs to know.

    Attributes:
        title: heading of the report.
        output: folder that the run writes; refused when it is in use, unless --resume or --overwrite is
            given.
        seed: of the weights, the order of the images and the augmentation.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        data: which images.
        model: which network.
        train: how the network alone is trained (stage unary).
        joint: how network and CRF are trained together (stage joint), and the control without CRF (unary+).
        crf: structure of the jointly trained CRF, and the parameters wherever none were searched.
        search: which CRF parameters are tried on the held-out images (post-hoc).
        predict: how images are given to a trained network: scales, mirror, tiles.
        evaluation: metrics, trimap widths, bootstrap.
        pictures: number of images in the report's strip.
    """

    title: str = "crfnet"
    output: Path = Path("runs/run")
    seed: int = 0
    device: str = "auto"
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    joint: TrainConfig = dataclasses.field(
        default_factory=lambda: TrainConfig(loss="image", unary_loss=0.5, iterations=2000)
    )
    crf: CRFConfig = dataclasses.field(default_factory=CRFConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    predict: PredictConfig = dataclasses.field(default_factory=PredictConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    pictures: int = 6

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device: {self.device!r}; allowed are auto, cpu, cuda")
        if "\0" in str(self.output):
            raise InputError(f"output: {str(self.output)!r}; allowed is the name of a folder")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed: {self.seed}; allowed are 0..{2**32 - 1}")
        if self.pictures < 1:
            raise InputError(f"pictures: {self.pictures}; at least 1")


def parser() -> ArgumentParser:
    """The parser of a `Run`, whose help is the documentation of every key."""
    made = ArgumentParser(
        prog="crfnet config",
        exit_on_error=False,
        allow_abbrev=False,  # a mistyped key is unknown, on the command line as in a file
        description="Every key of a config file.",
    )
    made.add_argument("--config", action="config", help="the YAML file")
    made.add_class_arguments(Run, None)
    return made


def load_run(path: Path | None, overrides: Sequence[str] = ()) -> Run:
    """The `Run` in the YAML file at `path`, changed by `overrides` (``--section.key value ...``).

    Raises:
        InputError: the file cannot be read; an unknown key, a wrong type or a value that is not allowed.
    """
    place = str(path) if path is not None else "command line"
    if path is not None:
        if not path.is_file():
            raise InputError(f"{path}: no such config file")
        if not isinstance(content := read_yaml(path), dict):
            raise InputError(f"{path}: holds {content!r:.60}; expected sections and keys of a config")
    reader = parser()
    try:
        given = _parsed(reader, [*(["--config", str(path)] if path is not None else []), *overrides])
        _refuse_null(given, Run)
        try:
            run = reader.instantiate(given)
        except InputError:
            _name_section(given)
            raise
        return Run(**{field.name: getattr(run, field.name) for field in dataclasses.fields(Run)})
    except ArgumentError as error:
        raise InputError(f"{place}: {_one_line(str(error))}") from error
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _parsed(reader: ArgumentParser, arguments: Sequence[str]) -> Any:
    try:
        return reader.parse_args(arguments)
    except (ArgumentError, InputError):
        raise
    except Exception as error:  # its YAML reader raises what int(), recursion and regular expressions do
        raise InputError(f"a value cannot be read ({one_line(error)})") from error


def _refuse_null(given: Any, kind: type, prefix: str = "") -> None:
    """Jsonargparse takes null for every key, whatever its type, and a number for a section."""
    for name, hint in get_type_hints(kind).items():
        value = given[name]
        if value is None and type(None) not in get_args(hint):
            raise InputError(f"{prefix}{name} is null; leave the key out for its default")
        if value is not None and dataclasses.is_dataclass(hint):
            if not isinstance(value, Namespace):
                raise InputError(f"{prefix}{name}: {value!r:.60}; allowed are keys with their values")
            _refuse_null(value, hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def _name_section(given: Any) -> None:
    """Makes each section by itself: what its owner refuses is raised again with the section's name."""
    for name, hint in get_type_hints(Run).items():
        if not dataclasses.is_dataclass(hint):
            continue
        section = ArgumentParser(exit_on_error=False)
        section.add_class_arguments(hint, name)
        try:
            section.instantiate(Namespace({name: given[name]}))
        except InputError as error:
            known = str(error).startswith((f"{name}.", f"{name}:"))
            raise InputError(str(error) if known else f"{name}.{error}") from error


def _one_line(message: str) -> str:
    """Jsonargparse's message on one line, with the known keys where a key is unknown."""
    message = re.sub(r"\S{120,}", lambda long: f"{long[0][:100]}...", " ".join(message.split()))
    message = message.replace("Parser key ", "key ").replace("<class '", "").replace("'>.", ".")
    message = re.sub(r"Expected a typing\.Literal\[(.*?)\]\.", r"allowed are \1.", message)
    unknown = re.search(r"(?:Option '|unrecognized arguments: (?:--)?)([\w.-]+)", message)
    inside = re.search(r"Group '([\w.-]+)' does not accept option '([\w.-]+)'", message)
    if unknown is None and inside is None:
        return message
    key = ".".join((unknown or inside).groups())  # type: ignore[union-attr]
    known = _known_keys(Run)
    while key.rpartition(".")[0] not in ("", *known):
        key = key.rpartition(".")[0]  # of a section that does not exist, the section is what is wrong
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    near = difflib.get_close_matches(key, siblings, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"unknown key {key}{meant} (known: {', '.join(siblings)})"


def _known_keys(kind: type, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for field in dataclasses.fields(kind):
        keys.append(prefix + field.name)
        section = field.type if isinstance(field.type, type) else None
        if section is not None and dataclasses.is_dataclass(section):
            keys += _known_keys(section, f"{prefix}{field.name}.")
    return keys


def to_plain(value: Any) -> Any:
    """`value` as what YAML can hold: dataclasses as mappings, tuples as lists, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def save_run(run: Run, path: Path) -> None:
    """Writes the resolved config, every key with its value, so that the run can be repeated from it alone."""
    write_atomically(path, dump_run(run).encode())


def dump_run(run: Run) -> str:
    """The resolved config as YAML."""
    return str(yaml.safe_dump(to_plain(run), sort_keys=False))
