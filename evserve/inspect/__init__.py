"""The `events` command: looks into a queue of any engine, and mends it.

options.py   the verbs, and which options each takes
service.py   the one-shot job: opens the queue, runs the verb, closes the queue
verbs.py     list, peek, kick, delete, replay, pause, resume, drain, put
move.py      Move: from one queue to another, without losing an event
output.py    tables, JSON Lines, bodies

The way of `events --queue URL kick mail`: service.makeService opens the queue; verbs.kick asks
EventQueue.kick and passes the outcome to Output.record, which shows it as a line or as JSON;
service.EventsService closes the queue and ends the process.
"""
