"""Where the time goes: every operator, derivative and kernel, with its share.

``recording.py`` watches and notes events; ``report.py`` turns events into a table
and into a trace for chrome://tracing or Perfetto; ``schedule.py`` picks steps of a
long run.
"""

from .recording import ProfilerActivity, profile, record_function
from .report import Event, EventAverage, EventList
from .schedule import ProfilerAction, schedule

__all__ = [
    "Event",
    "EventAverage",
    "EventList",
    "ProfilerAction",
    "ProfilerActivity",
    "profile",
    "record_function",
    "schedule",
]
