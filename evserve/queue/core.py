"""The core of the queue in one piece: commands and the time in, answers and changes out.

Nothing here knows Twisted, SQLite, the wire or a clock. `Core` holds the three parts; the engine
drives them: a command of `ledger` makes Changes, which the engine has stored and then settles;
a command of `line` answers at once or later, through `line.answers`.
"""

from attrs import Factory, define

from evserve.queue.book import Book
from evserve.queue.ledger import Ledger
from evserve.queue.line import Line


@define(eq=False, repr=False)
class Core:
    """The book, and the two that write in it."""

    book: Book = Factory(Book)
    line: Line = Factory(lambda self: Line(self.book), takes_self=True)
    ledger: Ledger = Factory(lambda self: Ledger(self.book, self.line), takes_self=True)
