"""The page with the charts.

`page` has all sections; `chart` draws a metric as SVG and `labels` places the names in it;
`markup` makes elements, `units` formats numbers. `style.css` is included in the page.
"""

from evserve.lab.report.page import as_html


__all__ = ["as_html"]
