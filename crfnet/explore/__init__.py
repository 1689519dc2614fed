"""A local page with sliders for the parameters of a CRF or a domain transform; `crfnet explore`.

``session`` solves the CRF again and again through a ``cached_filter``, ``pace`` predicts how long that takes,
``open_session``, ``palettes`` and ``saving`` read and write files, ``snippets`` and ``transform_snippets``
write parameters as text to paste, ``class_view`` paints one class, ``redraw`` is the thread between page and
session; none of these knows a page. ``page`` with its ``controls``, ``transform_controls``, ``copying`` and
``plots``, and ``server`` do, and need bokeh.
"""

from crfnet.explore.cached_filter import CachedFilter, Canceled
from crfnet.explore.open_session import open_session
from crfnet.explore.palettes import distinct_colors
from crfnet.explore.redraw import Redraw
from crfnet.explore.saving import save_crf
from crfnet.explore.session import Picture, Session

__all__ = [
    "CachedFilter",
    "Picture",
    "Redraw",
    "Session",
    "Canceled",
    "distinct_colors",
    "open_session",
    "save_crf",
]
