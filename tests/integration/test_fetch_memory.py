"""Large inputs and bodies do not need large memory."""

import re
from hashlib import sha256
from pathlib import Path

from tests.integration.fetch_case import Case
from tests.integration.fetch_server import MB, Big
from tests.integration.processes import run_python


URLS = 250_000
MANY = Path(__file__).with_name("fetch_many_urls.py")


def rss(pid, key="VmHWM"):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) * 1024


class MemoryTests(Case):
    async def test_200_mb_to_disk_need_8_mib_at_most(self):
        self.site.answers["/big"] = Big(200 * MB)
        child = self.fetch("-i", "-", "--save", "files", "-o", "rows.jsonl")
        child.transport.write(f"{self.site.url('/')}\n".encode())
        await child.shows(b"status 200")
        before = rss(child.transport.pid, "VmRSS")
        child.transport.write(f"{self.site.url('/big')}\n".encode())
        await child.shows(b"200000000 bytes received")
        after = rss(child.transport.pid)
        child.transport.closeStdin()
        self.assertEqual(await child.ended, 0)
        self.assertEqual(self.rows()[1]["sha256"], sha256(bytes(200 * MB)).hexdigest())
        self.assertLess(after - before, 8 * 1024 * 1024)

    async def test_many_urls_are_streamed(self):
        with (self.folder / "urls.txt").open("w") as lines:
            for number in range(URLS):
                lines.write(f"http://host{number % 50}.example/some/path/{number}.html\n")
        child = run_python(self, MANY, self.folder / "urls.txt")
        self.assertEqual(await child.ended, 0, child.err.decode())
        rows, mib = child.out.split()
        self.assertEqual(int(rows), URLS)
        # 5 of these are the table of URLs seen; the file alone has 10.
        self.assertLess(float(mib), 12.0)
