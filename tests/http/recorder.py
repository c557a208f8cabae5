"""What a parser or an exchange said, for tests to look at."""

from attrs import define, field


@define(eq=False)
class Recorder:
    head: object = None
    body: bytes = b""
    refuse: Exception | None = None
    chunks: list = field(factory=list)

    def on_head(self, head):
        self.head = head
        if self.refuse:
            raise self.refuse

    def on_data(self, data):
        self.body += data
        self.chunks.append(data)
