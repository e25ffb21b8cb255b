"""What serving systems print about their data-parallel ranks: reading, judging and writing it.

``docs/diagnose.md`` describes the formats, the grouping of samples in time and what is made of them.
"""

from .findings import Diagnosis, Finding, diagnose
from .log import Log, Moments, read_log
from .scan import FORMATS
from .writer import log_text, write_log

__all__ = ["FORMATS", "Diagnosis", "Finding", "Log", "Moments", "diagnose", "log_text", "read_log", "write_log"]
