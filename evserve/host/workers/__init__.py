"""`--workers N`: several processes that share the listening sockets of stateless services.

The parent binds the sockets and accepts nothing; each worker is the same command line run again,
told by `assignment` which descriptors it inherits. They talk over two pipes, in `frames`.
"""
