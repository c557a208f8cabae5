"""The queue: durable events that producers put and consumers reserve."""
