"""What may happen to a queue on Postgres, done to it at random while processes work with it.

docs/reliability.md says what each scenario shows and how to run many rounds.
"""

import os
import random


ROUNDS = int(os.environ.get("EVSERVE_CHAOS_ROUNDS", "1"))
"""How often each scenario does its worst; those with queue servers do it less often."""

SEED = int(os.environ.get("EVSERVE_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
"""What every random choice comes from; scenarios print it."""
