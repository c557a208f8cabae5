"""ASGI applications behind the host's ports, on uvicorn's protocol classes.

    service      Options, makeService, and the service: start, Date, drain, end
    application  finds the application that the user named
    lifespan     tells the application of the start and the end
    server       what connections share: uvicorn's configuration, state and metrics
    connection   Twisted's transport as uvicorn's protocols want one
    protocols    uvicorn's protocols, with limits to what a client may do
    logs         uvicorn's log lines, and the access log, in evserve's log

The way of a request: the transport calls `HTTPProtocol.data_received`, by the name of the
connection's `dataReceived`. uvicorn parses the request and runs the application in a task. What
the application sends goes through `Connection.write` to Twisted's transport, whose producer the
connection is: uvicorn lets the application wait while the client does not read. A request for a
websocket changes the protocol by `Connection.set_protocol`.
"""
