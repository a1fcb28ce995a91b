"""The report: a page that carries all it shows, its figures as files, and logs for other tools."""

from ravine.lab.report.charts import COLOURS, DASHES
from ravine.lab.report.exports import export
from ravine.lab.report.logs import open_log
from ravine.lab.report.page import html
from ravine.lab.report.read import report
from ravine.lab.report.table import COLUMNS, columns, table

__all__ = ["COLOURS", "COLUMNS", "DASHES", "columns", "export", "html", "open_log", "report", "table"]
