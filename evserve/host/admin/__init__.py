"""The admin port: health, metrics and a live status page of the process.

`service` listens and wires; `site` answers requests by the pages of `pages`, which know nothing of
HTTP connections; `hosts`, `status` and `exposition` are plain functions of values.
"""
