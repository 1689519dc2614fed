"""One report of a comparison: tables with intervals, curves, pictures; as one HTML file and as Markdown.

``report`` makes a ``document`` of ``arms`` (what was measured), ``scores`` (every number with its interval),
``tables``, ``curves``, ``pictures``, the ``gallery``, and ``traces`` of what stages left behind
(``histories``); ``markdown`` and ``web`` write it. ``saved`` keeps what it was made of, ``seeds`` makes one
of several runs.
"""

from crfnet.report.arms import ArmResult
from crfnet.report.gallery import shown_images
from crfnet.report.pictures import StripSample, largest_changes
from crfnet.report.report import write_report
from crfnet.report.report_json import load_inputs
from crfnet.report.seeds import combine
from crfnet.report.tables import console_table
from crfnet.report.traces import ENERGY_FILE
from crfnet.report.training_curves import Descent, write_descents

__all__ = [
    "ENERGY_FILE",
    "ArmResult",
    "Descent",
    "StripSample",
    "combine",
    "console_table",
    "largest_changes",
    "load_inputs",
    "shown_images",
    "write_descents",
    "write_report",
]
