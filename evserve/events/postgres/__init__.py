"""The engine for `postgresql://`."""
