"""Reports in a real browser, in the frame that the Kubeflow UI shows them in: 480 px wide and sandboxed."""

import html
import json
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from sightline.reports.charts import Series, confusion_chart, grouped_bar_chart, histogram, line_chart
from sightline.reports.page import (
    Picture,
    Tile,
    details,
    gallery,
    grid,
    legend,
    notice,
    render_page,
    section,
    table,
    tiles,
)
from sightline.reports.pictures import Thumbnails

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium in the path: reports are not looked at in a browser"
)

FRAME = (480, 600)
LAPTOP = (1400, 900)
OWN_BAR = 10  # px
LONG = "a_class_name_that_somebody_made_far_too_long_to_fit_anywhere_without_a_break"

# Runs in the frame and tells the page around it what a reader would see there: nothing else leaves a sandboxed frame.
MEASURE = """
<script>
async function tell() {
  const first = document.querySelector("svg").getBoundingClientRect();
  if (innerWidth !== WANTED || first.width === 0) return setTimeout(tell, 20);  // at first a frame is 0 or 300 px wide
  for (const one of document.querySelectorAll("details")) one.open = true;
  for (const one of document.images) one.loading = "eager";
  await Promise.allSettled([...document.images].map((one) => one.decode()));
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => element.closest(".scroll") !== null;
  const outside = [...document.body.querySelectorAll("*")]
    .filter((element) => !scrolls(element) && element.getBoundingClientRect().right > width + 1)
    .map((element) => element.tagName + " " + element.textContent.slice(0, 40));
  parent.postMessage({
    client: width, scroll: document.documentElement.scrollWidth, outside,
    drawings: [...document.querySelectorAll("svg")].map((one) => [one.getBoundingClientRect().width, one.getBoundingClientRect().height]),
    letters: [...document.querySelectorAll("svg text")].map((one) => one.getBoundingClientRect().height),
    images: [...document.images].map((one) => one.naturalWidth),
    boxes: [...document.querySelectorAll(".scroll")].map((one) => ({
      table: one.querySelector("table") !== null, wider: one.scrollWidth - one.clientWidth,
      overflow: getComputedStyle(one).overflowX, bar: one.offsetHeight - one.clientHeight - 2 * one.clientTop,
      shadow: getComputedStyle(one).backgroundAttachment.includes("local"), focus: one.tabIndex,
    })),
    tables: document.querySelectorAll("table").length,
    columns: getComputedStyle(document.querySelector(".grid")).gridTemplateColumns.split(" ").length,
  }, "*");
}
addEventListener("load", tell);
</script>
"""


@pytest.fixture(scope="module")
def report() -> str:
    """A page with every kind of block, filled with what is hard to fit."""
    from PIL import Image

    thumbnails = Thumbnails(4)
    uris = [thumbnails.add(Image.new("RGB", (640, height), "teal"), []) or "" for height in (352, 900)]
    epochs = list(range(1, 31))
    curves = [Series(name, epochs, [1 / epoch for epoch in epochs]) for name in ("loss", LONG, "loss_mask")]
    labels = [LONG, *(f"class {index}" for index in range(24))]
    blocks = [
        tiles(*[Tile(name, 123456, LONG) for name in ("Images", "Objects", LONG)]),
        notice(f"No object of {LONG} in test."),
        section("Charts", grid(
            line_chart("Loss", curves, "iteration", "loss"),
            grouped_bar_chart("Objects", labels[:5], {"train": [1, 20, 300, 4, 5], "val": [1, 2, 3, 4, 5]}, "objects"),
            histogram("Sizes", list(range(1000)), "px", "objects"),
            confusion_chart("Confusion", labels, np.eye(25) * 1234),
        )),
        section("Table", table([f"column {index}" for index in range(14)], [[LONG, LONG, *range(12)]]), intro=LONG),
        section("Pictures", legend([LONG, "b"]), gallery([Picture(LONG, LONG, ((uri, "drawn"),)) for uri in uris]),
                gallery([Picture(LONG, LONG, ((uris[0], "truth"), (uris[1], "prediction")))])),
        details("Findings", table(["file", "reason"], [[f"{LONG}/{LONG}", LONG]]), Markup("<p>and 3 more</p>")),
    ]  # fmt: skip
    facts = {"dataset version": "v0.1.0", "model": f"gs://bucket/{LONG}/{LONG}"}
    return render_page("Test report", f"desk {LONG}", facts, blocks)


class Listener(BaseHTTPRequestHandler):
    """Serves the page around the frame and takes what the frame told it."""

    page = b""
    told: "queue.Queue[dict]"

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page if self.path == "/" else b"")

    def do_POST(self):  # noqa: N802
        self.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def measure(report: str, size: tuple[int, int], folder: Path) -> dict:
    """What the browser made of the report in a sandboxed frame of this size."""
    inner = html.escape(report.replace("</body>", MEASURE.replace("WANTED", str(size[0])) + "</body>"))
    page = (
        '<meta charset="utf-8"><body style="margin:0"><script>'
        'addEventListener("message", (event) => fetch("/told", {method: "POST", body: JSON.stringify(event.data)}))'
        f'</script><iframe sandbox="allow-scripts" style="border:0;width:{size[0]}px;height:{size[1]}px" srcdoc="{inner}">'
        "</iframe>"
    )
    told: queue.Queue[dict] = queue.Queue()
    handler = type("Told", (Listener,), {"page": page.encode(), "told": told})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
        command = [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder / 'profile'}",
            "--window-size=1600,1000", "--remote-debugging-port=0", f"http://127.0.0.1:{server.server_port}/",
        ]  # fmt: skip
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return told.get(timeout=60)
        finally:
            browser.terminate()
            browser.wait(timeout=20)
            server.shutdown()


@pytest.fixture(scope="module")
def in_frame(report, tmp_path_factory) -> dict:
    return measure(report, FRAME, tmp_path_factory.mktemp("frame"))


@pytest.fixture(scope="module")
def on_laptop(report, tmp_path_factory) -> dict:
    return measure(report, LAPTOP, tmp_path_factory.mktemp("laptop"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["in_frame", "on_laptop"])
def test_nothing_reaches_past_the_page(place, request):
    seen = request.getfixturevalue(place)
    assert seen["outside"] == []
    assert seen["scroll"] <= seen["client"]


@pytest.mark.slow
def test_a_table_that_is_too_wide_scrolls_in_its_own_box_and_shows_it(in_frame):
    """Also where scrollbars hide until one scrolls, as on a Mac or a phone: the bar is the page's own, which never hides."""
    boxes = [box for box in in_frame["boxes"] if box["table"]]
    assert len(boxes) == in_frame["tables"] == 2
    for box in in_frame["boxes"]:
        assert (box["overflow"], box["shadow"], box["focus"]) == ("auto", True, 0)
    wide = [box for box in in_frame["boxes"] if box["wider"] > 0]
    assert [box["table"] for box in wide].count(True) == 2
    assert all(box["bar"] == OWN_BAR for box in wide)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["in_frame", "on_laptop"])
def test_charts_and_pictures_are_drawn_in_the_sandbox(place, request):
    seen = request.getfixturevalue(place)
    assert len(seen["drawings"]) == 4
    assert all(width > 300 and height > 80 for width, height in seen["drawings"])
    assert len(seen["images"]) == 4
    assert all(width > 0 for width in seen["images"])


@pytest.mark.parametrize("place", ["in_frame", "on_laptop"])
def test_the_charts_text_can_be_read(place, request):
    heights = request.getfixturevalue(place)["letters"]
    assert min(heights) > 10
    assert np.median(heights) < 24


def test_charts_stand_side_by_side_where_there_is_room(in_frame, on_laptop):
    assert in_frame["columns"] == 1
    assert on_laptop["columns"] == 3
