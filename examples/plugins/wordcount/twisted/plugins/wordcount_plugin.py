"""Two handlers; `twistd -n evserve work --queue URL` in this folder runs them."""

from evserve.plugin import Handler


count = Handler("text.uploaded", "wordcount.count_words", blocking=True)
announce = Handler("text.*", "wordcount.announce", max_attempts=3, timeout=10)
