"""Measure the page of many results in headless Chromium: its size, its first paint, its slowest sort.

    pip install -e ".[test]" && python core/benchmarks/page.py [RESULTS]

Chromium and chromedriver must be on the path. Half of the results (of 2,000) are a grid on one data
set with one seed each, so that its table is long; the others are five seeds of methods on ten data sets.
"""

import random
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from gossamer import Result, compare, report

METHODS = (
    "dense",
    "small-dense",
    "static-random",
    "rigl",
    "set",
    "gmp",
    "granet",
    "snip",
    "grasp",
    "magnitude-finetune",
)
SORT = """const section = document.querySelector("#grid-big"), times = [];
  for (const button of section.querySelectorAll("th button")) for (const turn of [1, 2]) {
    const start = performance.now();
    button.click();
    section.getBoundingClientRect();  // lays the table out
    times.push(performance.now() - start);
  }
  return times;"""


def made(count: int) -> list[Result]:
    """So many results, as like to real ones as can be drawn."""
    draw = random.Random(1)
    found = []
    for place in range(count):
        grid, method = place < count // 2, METHODS[place % len(METHODS)]
        seed, sparsity = (1, draw.random()) if grid else (place // len(METHODS) % 5 + 1, 0.9)
        width, data = (place, "big") if grid else (16, f"data-{place // (5 * len(METHODS)) % 10}")
        dense = method == "dense"
        share = 1.0 if dense else 1 - sparsity
        words = f"--method {method} --sparsity {sparsity:.4f} --width {width} --seed {seed}"
        result = Result(
            domain="grid" if grid else "several", method=method, data=data, seed=seed, metric="top-1 accuracy",
            pattern="dense" if dense else "Unstructured()", sparsity_asked=1 - share, sparsity=1 - share,
            value=draw.gauss(0.9, 0.02), higher_is_better=True, floor=0.1, parameters=300_000,
            nonzeros=int(300_000 * share), bytes=int(1_300_000 * share), latency_ms=draw.random(),
            train_seconds=100 * draw.random(), config={"method": method, "seed": seed, "width": width},
            versions={"python": "3.11", "torch": "2.11"}, commit="0" * 12, command=f"gossamer train toy {words}",
            extra={"curve": [1 - draw.random() / (epoch + 2) for epoch in range(50)]},
        )  # fmt: skip
        found.append(result)
    return found


def main(count: int) -> None:
    """Print the figures."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(word)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(report.html(compare.rows(made(count))))
        size = page.stat().st_size
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            paints = []
            for _ in range(5):
                browser.get(page.as_uri())
                WebDriverWait(browser, 60).until(lambda b: b.execute_script("return 'drawn' in document.body.dataset"))
                paint = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
                paints.append(browser.execute_script(paint))
            sorts = browser.execute_script(SORT)
        finally:
            browser.quit()
    print(f"{count:,} results: {size / 1e6:.2f} MB, first paint {sorted(paints)[2]:.0f} ms (median of 5)")
    print(
        f"{len(sorts)} sorts of {count // 2:,} rows: {statistics.median(sorts):.0f} ms, the slowest {max(sorts):.0f} ms"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 2000)
