"""The work room: takes events from a queue and runs the handlers that plugin files name."""
