"""What a browser draws: signs of formulas, both themes, workers of pages opened from disk; skipped without one."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import hsb
from test_site import DOCS, hook, page

import pmwmix

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium or Chrome to draw pages with"),
    pytest.mark.filterwarnings("default"),  # of the site's own tools
]


def drawn(path, *options: str) -> str:
    """Open a page in a headless browser and give its document after its scripts have run."""
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={path.parent / 'u'}"]
    command = [BROWSER, *fixed, "--virtual-time-budget=5000", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_every_sign_of_the_formulas_is_drawn_with_their_font(tmp_path):
    formulas = hook("mathematics")
    for path in sorted(DOCS.glob("*.md")):
        formulas.on_page_markdown(path.read_text(encoding="utf-8"), page(path.name), None, None)
    (tmp_path / "css").mkdir()
    formulas.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    shutil.copy(DOCS / "css" / "site.css", tmp_path / "css" / "site.css")
    signs = sorted(sign for sign in formulas._characters if sign.isprintable() and not sign.isspace())
    absent = "\u4dc0"  # a hexagram, which no mathematical font has: what a sign without a glyph looks like
    (tmp_path / "page.html").write_text(
        """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="css/site.css"><pre id="out"></pre><script>
        const canvas = document.createElement("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
        canvas.width = canvas.height = 80;
        function shape(sign, fonts) {
          pen.clearRect(0, 0, 80, 80); pen.font = `40px ${fonts}`; pen.fillText(sign, 10, 55);
          return pen.getImageData(0, 0, 80, 80).data.join();
        }
        document.fonts.load("40px 'STIX Two Math Cut'", "x").then(() => {
          const own = (sign) => shape(sign, "'STIX Two Math Cut', monospace") !== shape(sign, "monospace");
          document.getElementById("out").textContent = JSON.stringify(SIGNS.filter((sign) => !own(sign)));
        });</script>""".replace("SIGNS", json.dumps([*signs, absent])),
        encoding="utf-8",
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', drawn(tmp_path / "page.html", "--dump-dom"))[1]
    assert "√" in signs and json.loads(found) == [absent]


def test_a_summary_is_readable_in_light_and_dark_pages(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    fit = pmwmix.fit("mathach ~ cses + (1 | school)", hsb())
    (tmp_path / "page.html").write_text(fit.summary().to_html("Summary"), encoding="utf-8")
    for scheme, paper in ((1, 1.0), (0, 0.0)):  # light, dark
        picture = tmp_path / f"{scheme}.png"
        drawn(tmp_path / "page.html", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}")
        grey = plt.imread(picture)[..., :3].mean(axis=2)
        assert abs(np.median(grey) - paper) < 0.15
        assert (np.abs(grey - np.median(grey)) > 0.6).mean() > 0.005  # letters stand out from the paper


def test_workers_of_pages_opened_from_disk_answer(tmp_path):
    shutil.copy(DOCS / "js" / "iframe-worker.js", tmp_path)
    (tmp_path / "more.js").write_text("const twice = (x) => 2 * x;")
    (tmp_path / "worker.js").write_text(
        "addEventListener('message', async (e) => { await importScripts('more.js'); postMessage(twice(e.data)); });"
    )
    (tmp_path / "page.html").write_text(
        """<!doctype html><script src="iframe-worker.js"></script><p id="out"></p><script>
        const worker = new Worker("worker.js");
        worker.addEventListener("message", ({ data }) => { document.getElementById("out").textContent = data; });
        worker.postMessage(21);</script>"""
    )
    assert '<p id="out">42</p>' in drawn(tmp_path / "page.html", "--dump-dom")
