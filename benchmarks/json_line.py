"""What a benchmark and its client processes tell each other."""

import json
from typing import Self

from attrs import asdict


class JsonLine:
    """Passes an attrs object through a pipe, in one line."""

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))  # type: ignore[arg-type]  # the subclasses are attrs

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the object that `to_json` wrote."""
        return cls(**json.loads(text))
