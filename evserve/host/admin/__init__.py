"""`--admin ENDPOINT`: health, metrics and a live status page of the process.

    service    the listening service: it starts before the others and stops after them
    http       from a request to a response: paths, headers, foreign Host headers, metrics as text
    status     what /api/status and /readyz say, as values
    page.html  the status page, which asks /api/status once a second

The way of a request:

    AdminService                  accepts the connection; its own limits, no descriptor limiter
    AdminResource.render          called by twisted.web for every request; adds the headers
    AdminResource._respond        checks the Host header and the method, picks the page by its path
    http.is_allowed_host          refuses a foreign name for a loopback address (DNS rebinding)
    status.current_status         /api/status: the metrics, as one ServiceStatus for each service
    http.metrics_response         /metrics: the same metrics, as Prometheus text or OpenMetrics
    status.unready_reason         /readyz: None, or why clients should go elsewhere
"""
