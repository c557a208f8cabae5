"""fetch: a polite crawler on top of `evserve.http`.

fetcher      Fetcher, the library: URLs in, results out
downloader   Downloader: sends jobs when it is polite to, acts on what comes back
scheduler    Scheduler: which job may start next; DuplicateFilter
job          Job: one URL over redirects and retries
result       Result: what became of a URL, for callbacks and rows
text         text from bytes: byte-order marks, charsets
policy       Policy, RetryPolicy; what follows a response; Retry-After
robots       robots.txt: RobotsFilter, RobotsRules
breaker      circuit breakers of origins and proxies that are down
agents       any IAgent as a client
sources      where URLs come from: lists, files, standard input
sitemaps     sitemaps, which are a source too
output/      where results go: files, WARC, rows, the journal, the terminal
service      `twistd -n evserve fetch`: Options, makeService, Crawl
queue        `--queue`: ConsumerService, URLs from events
interfaces   the seams: HTTPClient, Source, Sink
errors       names of errors in rows, beside those of `evserve.http.errors`
testing      MemoryHTTPClient: a client without a network

The way of a URL: `Crawl.run` takes it from a `Source`, skips duplicates and submits a `Job`. In
the `Downloader` it waits in `RobotsFilter` for its origin's robots.txt and in `Scheduler` for its
turn; then `Job.send` sends its request through the `HTTPClient`. The client calls `Job.started`,
`received` and `finished`, which feed the sinks. `Breakers` note whether the origin answered.
`Decider` decides what follows: another request (redirect, retry), which goes the same way, or the
end. `Recorder` gets the `Result`: it writes the row, syncs, adds the URL to the journal and prints
its line.
"""

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import Policy, RetryPolicy
from evserve.fetch.result import Result


__all__ = ["Fetcher", "Policy", "Result", "RetryPolicy"]
