"""The classes that are seen, as HTML: their colors, their names as text, and the share of the image."""

import html
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from crfnet.explore.session import Session
from crfnet.labels import Color
from crfnet.shapes import LabelMap

__all__ = ["legend"]

_NONE: Mapping[str, Color] = MappingProxyType({})


def legend(session: Session, shown: LabelMap | None, changes: Mapping[str, Color] = _NONE) -> str:
    """Names and colors of the classes that are seen, and how much of the image each has, in per cent.

    Args:
        session: names, colors, and the network's labels.
        shown: the CRF's labels, if there are any yet.
        changes: colors with a meaning of their own, by that.
    """
    counts = [
        each.flatten().bincount(minlength=len(session.names))
        for each in (session.network, shown)
        if each is not None
    ]
    entries = [_entry(color, html.escape(meaning)) for meaning, color in changes.items()]
    for label in torch.stack(counts).sum(0).nonzero().flatten().tolist():
        shares = " → ".join(f"{100 * int(count[label]) / session.network.numel():.1f}" for count in counts)
        name = html.escape(session.names[label])
        entries.append(_entry(session.colors[label], f"{name} <small>{shares} %</small>"))
    return f"{_LEGEND}<ul>{''.join(entries)}</ul>"


def _entry(color: Sequence[int], content: str) -> str:
    red, green, blue = color
    return f'<li><span style="background:rgb({red},{green},{blue})"></span>{content}</li>'


_LEGEND = """<style>
ul { display: flex; flex-wrap: wrap; gap: .2em 1.2em; margin: 0; padding: 0; list-style: none; }
span { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -.1em; }
span { border: 1px solid #666; }
small { color: #555; }
</style>"""
