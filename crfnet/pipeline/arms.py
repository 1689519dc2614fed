"""The arms of a comparison as rows: whose network, trained with what behind it, with whose parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from crfnet.config.variants import check_choices
from crfnet.errors import InputError, require

__all__ = [
    "ARMS",
    "FIVE",
    "SEARCH",
    "Arm",
    "Stages",
    "described",
    "folder_name",
    "ordered_arms",
    "stages_of",
]

SEARCH = "search"  #: parameters that are chosen on the held-out images


@dataclass(frozen=True)
class Arm:
    """One way to get label maps, made of what other arms leave; one of the section ``own_arms:``.

    Attributes:
        network: the arm whose network this one has, or goes on from; empty: one of its own.
        train: the section of the configuration by which its network is trained (on); empty: not at all.
        behind: what stands behind the network, crf or domain_transform, in training too; empty: nothing.
        parameters: of what stands behind: search (chosen on the held-out images), config (as the section crf
            or domain_transform says), or the name of an arm whose searched ones are meant. Training begins
            with them.
        control: the arms that show what of its gain is something else's: shown beside it in the report.

    Raises:
        InputError: fields that contradict one another.
    """

    network: str = "unary"
    train: Literal["", "train", "joint"] = ""
    behind: Literal["", "crf", "domain_transform"] = ""
    parameters: str = ""
    control: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choices(self, "")
        require("train", self.train, bool(self.network or self.train), "train or joint without a network")
        fits = bool(self.parameters) == bool(self.behind)
        require("parameters", self.parameters, fits, "given with behind, and only then")
        frozen = self.parameters != SEARCH or not self.train
        require("parameters", self.parameters, frozen, "config or an arm's where a network is trained")

    @property
    def needs(self) -> tuple[str, ...]:
        """The arms whose results it uses."""
        others = (self.network, self.parameters if self.parameters not in ("", SEARCH, "config") else "")
        return tuple(dict.fromkeys(name for name in others if name))


#: Those that a comparison has unless it is told otherwise.
FIVE = ("unary", "posthoc", "joint", "unary+", "posthoc+")

ARMS: dict[str, Arm] = {
    "unary": Arm(network="", train="train"),
    "posthoc": Arm(network="unary", behind="crf", parameters=SEARCH),
    "joint": Arm("unary", "joint", "crf", parameters="posthoc", control=("unary+", "posthoc+")),
    "unary+": Arm(network="unary", train="joint"),
    "posthoc+": Arm(network="unary+", behind="crf", parameters=SEARCH),
    "dt": Arm(network="unary", behind="domain_transform", parameters=SEARCH),
    "dt_joint": Arm("unary", "joint", "domain_transform", parameters="dt", control=("unary+", "dt+")),
    "dt+": Arm(network="unary+", behind="domain_transform", parameters=SEARCH),
}


def folder_name(arm: str) -> str:
    """The name of an arm's folder."""
    return arm.replace("+", "_plus")


def ordered_arms(names: Sequence[str], own: Mapping[str, Arm]) -> dict[str, Arm]:
    """The arms to work on, each after those that it needs, which are added where they were not named.

    Raises:
        InputError: an arm that is not there, a name twice or one of `ARMS` given anew, or arms that need each
            other.
    """
    _check_names(names, own)
    known = {**ARMS, **own}
    ordered: dict[str, Arm] = {}

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise InputError(f"arms need one another: {' -> '.join((*path[path.index(name) :], name))}")
        if name not in known:
            raise InputError(f"{_place(path)} is {name!r}, must be one of {', '.join(known)}")
        if name not in ordered:
            for other in known[name].needs:
                add(other, (*path, name))
            ordered[name] = known[name]

    for name in names:
        add(name, ())
    for name, arm in ordered.items():
        source = ordered.get(arm.parameters)
        fits = source is None or (source.behind, source.parameters) == (arm.behind, SEARCH)
        allowed = f"an arm that searches the parameters of a {arm.behind}"
        require(f"own_arms.{name}.parameters", arm.parameters, fits, allowed)
    return ordered


def _check_names(names: Sequence[str], own: Mapping[str, Arm]) -> None:
    for name in own:
        require("own_arms", name, name not in ARMS, "a name that is not built in")
        plain = name.replace("_", "").replace("+", "").isalnum() and name.isascii()
        require("own_arms", name, plain, "a name of letters, digits, _ and +")
        folders = [folder_name(other) for other in (*ARMS, *own) if other != name]
        require("own_arms", name, folder_name(name) not in folders, "another name: _plus in a folder is a +")
    once = bool(names) and len(set(names)) == len(names)
    require("arms", list(names), once, "one or more names, each once")


def _place(path: tuple[str, ...]) -> str:
    return f"an arm that own_arms.{path[-1]} needs" if path else "an arm"


class Stages(NamedTuple):
    """What an arm took, its own stage last; arms' names."""

    trainings: tuple[str, ...]
    searches: tuple[str, ...]


def stages_of(name: str, arms: Mapping[str, Arm]) -> Stages:
    """The trainings of its network, and the search for the parameters that it has or began with."""
    arm = arms[name]
    trainings = stages_of(arm.network, arms).trainings if arm.network else ()
    searches = {SEARCH: (name,), "config": (), "": ()}.get(arm.parameters, (arm.parameters,))
    if arm.network and arms[arm.network].train:  # the parameters that its network's training began with
        searches = tuple(dict.fromkeys((*stages_of(arm.network, arms).searches, *searches)))
    return Stages((*trainings, name) if arm.train else trainings, searches)


def described(arm: Arm) -> str:
    """Say in a line what an arm is."""
    parts = [f"the network of {arm.network}" if arm.network else "a network of its own"]
    if arm.train:
        parts.append(f"trained as the section {arm.train} says")
    if arm.behind:
        source = {SEARCH: "searched", "config": "the configuration's"}.get(arm.parameters, arm.parameters)
        parts.append(f"{arm.behind} behind it, parameters: {source}")
    if arm.control:
        parts.append(f"controls: {', '.join(arm.control)}")
    return "; ".join(parts)
