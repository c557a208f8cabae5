"""Where responses and results go: sinks for bodies, rows, the journal, the terminal.

recorder   every result, kept in an order that survives kill -9 and power cuts; the summary
files      `--save DIR`: FileSink, file names, partial files and their validators
warc       `--warc FILE`: WARCSink, records
rows       `-o FILE`: RowFile; writers for files, pipes and terminals
journal    `--journal FILE`: finished URLs, and where the outputs of a run end
disk       opening, locking and syncing files
"""

from evserve.fetch.output.files import FileSink
from evserve.fetch.output.warc import WARCSink


__all__ = ["FileSink", "WARCSink"]
