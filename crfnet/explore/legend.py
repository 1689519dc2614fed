"""The classes that are seen, as HTML: their colors, their names as text, and the share of the image."""

import html

import torch

from crfnet.explore.session import Session
from crfnet.shapes import LabelMap

__all__ = ["legend"]


def legend(session: Session, shown: LabelMap | None) -> str:
    """Names and colors of the classes that are seen, and how much of the image each has, in per cent."""
    counts = [
        each.flatten().bincount(minlength=len(session.names))
        for each in (session.network, shown)
        if each is not None
    ]
    entries = []
    for label in torch.stack(counts).sum(0).nonzero().flatten().tolist():
        red, green, blue = session.colors[label]
        shares = " → ".join(f"{100 * int(count[label]) / session.network.numel():.1f}" for count in counts)
        entries.append(
            f'<li><span style="background:rgb({red},{green},{blue})"></span>'
            f"{html.escape(session.names[label])} <small>{shares} %</small></li>"
        )
    return f"{_LEGEND}<ul>{''.join(entries)}</ul>"


_LEGEND = """<style>
ul { display: flex; flex-wrap: wrap; gap: .2em 1.2em; margin: 0; padding: 0; list-style: none; }
span { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -.1em; }
span { border: 1px solid #666; }
small { color: #555; }
</style>"""
