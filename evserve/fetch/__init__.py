"""The fetch room: an HTTP engine of our own on Twisted endpoints.

The core (`url`, `parser`, `decoding`, `redirects`, `digest`, ...) knows no Twisted: bytes in,
events out. Around it stand `connection`, `pool` and `client`, and on top of these `agent`, which
gives treq and everything else that speaks `IAgent` the same engine.
"""
