"""The made-up ways and reports of `deployment_reports`."""

from deployment_reports import report, way

__all__ = ["report", "way"]
