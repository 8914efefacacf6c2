"""Reports: one HTML file or a few lines of Markdown, from the result of a command alone.

matplotlib and jinja2 (the ``report`` extra) are imported when a page is made, not before.
"""

from __future__ import annotations

from edgekit.reporting.markdown import render_markdown
from edgekit.reporting.page import render_html
from edgekit.reporting.writing import require_reporting, write_report, write_reports

__all__ = [
    "render_html",
    "render_markdown",
    "require_reporting",
    "write_report",
    "write_reports",
]
