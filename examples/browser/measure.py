"""How soon the page answers on this machine, and how fast then.

    python examples/browser/measure.py MODEL

Needs node, `npm ci` in this folder, a Chromium, and playwright for Python. Each opening is that of
a new browser with an empty cache. The server compresses, as most do.
"""

import functools
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Playwright, sync_playwright

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("ATTNREC_CHROMIUM") or shutil.which("chromium")
OPENINGS = 10
NETWORKS = {"this machine": None, "20 Mbit/s, 40 ms": 20e6}
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
LATER = """async () => {
    const { load, recommend } = await import(new URL("recommend.js", location).href);
    const model = await load("model.onnx");
    const { items } = await recommend(model, { k: Number.MAX_SAFE_INTEGER });
    const one = () => items[Math.floor(Math.random() * items.length)].id;
    const times = [];
    for (let asked = 0; asked < 1200; asked++) {
        const history = Array.from({ length: 50 }, one);
        const begun = performance.now();
        await recommend(model, { history });
        if (asked >= 200) times.push(performance.now() - begun);
    }
    return times;
}"""


@functools.cache
def compressed(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), 9)


class Compressing(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.translate_path(self.path)
        path = os.path.join(path, "index.html") if os.path.isdir(path) else path
        body = compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def opened(playwright: Playwright, address: str, bits: float | None) -> tuple[Page, float]:
    """The page in a new browser, and the milliseconds until its first answer could be seen."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
    page = browser.new_page()
    if bits is not None:
        page.context.new_cdp_session(page).send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 40, "downloadThroughput": bits / 8,
             "uploadThroughput": bits / 8},
        )  # fmt: skip
    page.goto(address)
    page.wait_for_selector("#traffic:not(:empty)", state="attached", timeout=120_000)
    first: float = page.evaluate("performance.getEntriesByName('first answer')[0].startTime")
    return page, first


def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as site:
        subprocess.run(["node", HERE / "build.mjs", site], check=True, stdout=subprocess.DEVNULL)
        shutil.copy(model, f"{site}/model.onnx")
        files = sorted(Path(site).iterdir(), key=lambda path: path.stat().st_size)
        print(f"{'bytes':28} {'raw':>12} {'gzip':>12}")
        for path in files:
            raw, packed = path.stat().st_size, len(compressed(str(path)))
            print(f"{path.name:28} {raw:12,} {packed:12,}")
        raw = sum(path.stat().st_size for path in files)
        print(f"{'together':28} {raw:12,} {sum(len(compressed(str(p))) for p in files):12,}")

        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Compressing, directory=site)
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        with sync_playwright() as playwright:
            for name, bits in NETWORKS.items():
                times = []
                for _ in range(OPENINGS):
                    page, first = opened(playwright, address, bits)
                    times.append(first)
                    if len(times) < OPENINGS:
                        page.context.browser.close()
                print(f"first answer, {name}: median {statistics.median(times):.0f} ms,"
                      f" from {min(times):.0f} to {max(times):.0f}")  # fmt: skip
            later = sorted(page.evaluate(LATER))
            p10, p50, p99 = (later[int(share * len(later))] for share in (0.1, 0.5, 0.99))
            print(f"later, a history of 50: median {p50:.1f} ms, p10 {p10:.1f}, p99 {p99:.1f}")
            page.context.browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
