"""What training scripts put around a state dict: dictionaries, prefixes of the names, averaged copies."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Unwrapped", "unwrapped", "without_prefixes"]

#: Where scripts put the state dict beside optimizer and counters, the likeliest first. Averages come last.
KEYS = (
    "model_state", "state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params",
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema",
)  # fmt: skip
#: In front of all names: DataParallel, Lightning and the like; `network.` is our own.
PREFIXES = ("module.", "model.", "net.", "student.", "ema_model.", "model_ema.", "ema.")
#: Beside weights of one prefix, as numbers without a dot (n_averaged) are: losses, metrics, averages.
BESIDE = (
    "criterion.", "loss.", "loss_fn.", "loss_func.", "metric.", "metrics.",
    "ema_model.", "model_ema.", "ema.", "teacher.",
)  # fmt: skip
#: Parts that compilers and sharding put anywhere in a name.
PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class Unwrapped(NamedTuple):
    """A state dict, and a line for everything that was around it."""

    state: dict[str, Tensor]
    notes: tuple[str, ...]


def unwrapped(content: Mapping[Any, Any]) -> Unwrapped:
    """The state dict in what a file holds, its names without prefixes; empty where there is none."""
    path: list[str] = []
    while (key := _wrapper(content)) is not None:
        path.append(key)
        content = content[key]
    notes = (f"unwrapped: the weights were under {' / '.join(path)}",) if path else ()
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    bare = without_prefixes(weights)
    return Unwrapped(bare.state, notes + bare.notes)


def without_prefixes(weights: Mapping[str, Tensor]) -> Unwrapped:
    """Weights whose names all begin alike, or but for losses and averages, without that beginning."""
    state, stripped, left = dict(weights), "", Counter[str]()
    without = {".".join(part for part in name.split(".") if part not in PARTS): name for name in state}
    compiled = len(without) == len(state) and without.keys() != state.keys()
    if compiled:
        state = {name: state[old] for name, old in without.items()}
    while (prefix := _prefix(state)) is not None:
        left.update(_group(name) for name in state if not name.startswith(prefix))
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        stripped += prefix
    names = [*(part + "." for part in PARTS if compiled and any(part in name for name in weights)), stripped]
    notes = [f"stripped: {' and '.join(filter(None, names))} from the names"] if any(names) else []
    notes += [f"left out: {count} entries under {group}" for group, count in sorted(left.items())]
    return Unwrapped(state, tuple(notes))


def _wrapper(content: Mapping[Any, Any]) -> str | None:
    """The key under which the weights are; None where they are here."""
    found = (key for key in KEYS if isinstance(content.get(key), Mapping) and _holds_weights(content[key]))
    return next(found, None)


def _holds_weights(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values()) or _wrapper(content) is not None


def _prefix(state: Mapping[str, Tensor]) -> str | None:
    """The first prefix that all names have but those that lie beside the weights."""
    for prefix in PREFIXES:
        others = [name for name in state if not name.startswith(prefix)]
        if len(others) < len(state) and all(map(_is_beside, others)):
            return prefix
    return None


def _is_beside(name: str) -> bool:
    return "." not in name or name.startswith(BESIDE)


def _group(name: str) -> str:
    return name.partition(".")[0]
