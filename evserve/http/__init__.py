"""The HTTP client: an `IAgent`, a treq client, and the engine under both."""
