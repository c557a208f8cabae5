"""A chat room: a complete evserve plugin in a folder of its own."""
