"""One report of a comparison: tables with intervals, trimap curves, pictures.

``report`` writes it from ``arms`` (what was measured), ``scores`` (every number with its interval),
``tables``, ``curves`` and ``pictures``.
"""

from crfnet.report.arms import ArmResult
from crfnet.report.pictures import StripSample, largest_changes
from crfnet.report.report import write_report
from crfnet.report.tables import console_table

__all__ = ["ArmResult", "StripSample", "console_table", "largest_changes", "write_report"]
