"""The work service: runs the handlers that plugin files name, and their schedules.

service.py    Options, makeService, WorkService
runner.py     HandlerRunner, its metrics, one attempt of a handler, threads for blocking handlers
routing.py    Routes: which handler gets an event; load_plugins: from plugins to handlers
policy.py     RetryPolicy: retry or bury an event whose handler failed
schedules.py  Scheduler: puts an event at each tick of a schedule
demo.py       `--demo`

The way of an event: the Consumer of evserve.events reserves it and calls HandlerRunner._handle
with a Delivery; Routes.find picks the handler; RetryPolicy.before_attempt buries an event that
killed its process too often; an attempt runs the handler while the Consumer touches the event;
HandlerRunner._settle acknowledges it or, by the verdict of RetryPolicy.after_failure, retries or
buries it. A handler that goes on after its timeout keeps its place until it ends.

The way of a tick: Scheduler._step finds that it is due; EventQueue.advance moves the schedule's
position to it and puts the event, unless another worker did.
"""
