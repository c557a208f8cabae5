"""Two handlers and a schedule; `twistd -n evserve work --queue URL` in this folder runs them."""

from evserve.plugin import Handler, Schedule


count = Handler("text.uploaded", "wordcount.count_words", blocking=True)
announce = Handler("text.*", "wordcount.announce", max_attempts=3, timeout=10)
daily = Schedule("30 7 * * *", "text.daily", timezone="Europe/Berlin", body=b"good morning")
