"""The I/O-model lab: `twistd -n evserve lab`."""

from evserve.plugin import ServicePlugin


lab = ServicePlugin(
    "lab",
    "evserve.lab.service",
    "Measure I/O models side by side and draw a report.",
    listens=False,
)
