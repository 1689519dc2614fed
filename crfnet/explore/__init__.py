"""A local page with sliders for the parameters of a CRF or a domain transform; `crfnet explore`.

``session`` solves the CRF again and again on ``kept_lattices``, ``canceling`` ends what nobody waits for any
more, ``pace`` predicts how long a picture takes, ``open_session``, ``palettes`` and ``saving`` read and write
files, ``snippets`` and ``transform_snippets`` write parameters as text to paste, ``painting`` colors the
classes, ``class_view`` shows one of them, ``redraw`` is the thread between page and session; none of these
knows a page. ``page`` with its ``controls``, ``transform_controls``, ``copying`` and ``plots``, and
``server`` do, and need bokeh.
"""

from crfnet.explore.canceling import Canceled, Stop
from crfnet.explore.open_session import open_session
from crfnet.explore.palettes import distinct_colors
from crfnet.explore.redraw import Redraw
from crfnet.explore.saving import save_crf
from crfnet.explore.session import Picture, Session

__all__ = [
    "Picture",
    "Redraw",
    "Session",
    "Canceled",
    "Stop",
    "distinct_colors",
    "open_session",
    "save_crf",
]
