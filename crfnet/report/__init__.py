"""One report of a comparison: the answer, then tables, curves, pictures; as one HTML file and as Markdown.

The answer is made by rule: ``verdict`` decides from intervals alone which arm wins, ``answer`` says it in a
paragraph (with the ``caveats``), ``next_steps`` what to do with it (and where ``search_edges`` says that a
search ended at the edge of what it tried), ``answer_blocks`` puts them before all else with a small table.

``report`` makes a ``document`` of ``arms`` (what was measured), ``metric_intervals`` (every metric with its
interval, of ten images or more), ``tables``, ``metric_figures``, the ``picture_blocks`` (``image_strip`` and
``gallery``, both with a ``closeup`` of a border), and ``stage_blocks`` of what
searches, trainings and inferences left in their folders (``training_curves``, ``energy_curves``), with the
sentences of ``explanations``; ``markdown`` and ``html`` write it. ``report_json`` keeps what it was made of,
``seeds`` makes one report of several runs.
"""

from crfnet.report.arms import ArmResult
from crfnet.report.caveats import MADE_UP
from crfnet.report.console_table import console_table
from crfnet.report.energy_curves import EnergyTrace, write_energy_traces
from crfnet.report.gallery import shown_images
from crfnet.report.image_strip import StripSample, largest_changes
from crfnet.report.metric_intervals import FEWEST_IMAGES
from crfnet.report.report import write_report
from crfnet.report.report_json import read_report_json
from crfnet.report.seeds import combine
from crfnet.report.stage_blocks import ENERGY_FILE

__all__ = [
    "ENERGY_FILE",
    "FEWEST_IMAGES",
    "MADE_UP",
    "ArmResult",
    "EnergyTrace",
    "StripSample",
    "combine",
    "console_table",
    "largest_changes",
    "read_report_json",
    "shown_images",
    "write_energy_traces",
    "write_report",
]
