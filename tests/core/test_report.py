import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

import gossamer as gs
from gossamer import compare, domains, report, results
from gossamer.failures import Failure

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


def made(method, value, seed=1, **more):
    dense = method == "dense"
    fields = dict(
        domain="toy", method=method, data="dice", pattern="dense" if dense else "mask", sparsity_asked=0.0,
        sparsity=0.0 if dense else 0.9, seed=seed, metric="luck", value=value, higher_is_better=True, floor=0.0,
        parameters=100, nonzeros=100 if dense else 10, bytes=400 if dense else 80, latency_ms=1.0, train_seconds=1.0,
        config={"method": method, "seed": seed}, command=f"gossamer train toy --method {method}",
    )  # fmt: skip
    return gs.Result(**{**fields, **more})


def told(page):
    """What the page's script reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_says_what_sparsity_cost_and_gained():
    found = [made("dense", 0.8, s) for s in (1, 2)] + [made("rigl", v, s) for s, v in ((1, 0.78), (2, 0.79))]
    page = report.html(compare.rows(found))
    said = "rigl 90.0% reaches 0.785 luck, dense 0.8 (p = 0.2); it takes 0.1 of the non-zero weights, 0.2 of the bytes."
    (section,) = told(page)["sections"]
    assert section["sentence"] == said and said in page
    assert [row["kind"] for row in section["rows"]] == ["dense", "sparse"]
    assert section["rows"][1]["commands"] == ["gossamer train toy --method rigl"] * 2
    assert report.html(compare.rows(found)) == page


def test_what_results_say_is_text():
    evil = "</script><script>alert(1)</script>"
    page = report.html(compare.rows([made("dense", 0.8, data=evil, caveat=evil)]))
    assert evil not in page and page.count("<script") == 3
    assert told(page)["sections"][0]["data"] == evil


@pytest.mark.parametrize(
    ("curve", "points"),
    [
        ([0.1, 0.2, 0.3], [(1, 0.1), (2, 0.2), (3, 0.3)]),
        ([[10, 0.5, 0.1], [20, 0.6, 0.2]], [(10, 0.1), (20, 0.2)]),
        (None, []),
        ("steep", []),
        ([0.1, float("nan")], []),
        ([[], [1]], []),
    ],
)
def test_a_curve_is_values_or_points(curve, points):
    assert report.curve_of(curve) == points


def test_a_curve_is_the_mean_over_the_seeds_in_few_points():
    found = [made("rigl", 0.7, seed, extra={"curve": [seed * 0.1] * 500}) for seed in (1, 2)]
    (row,) = compare.rows(found)
    curve = report.curve(row)
    assert curve is not None and len(curve) == report.POINTS
    assert curve[0] == [1, 0.15] and curve[-1] == [500, 0.15]
    assert report.curve(compare.rows([made("rigl", 0.7)])[0]) is None


def test_a_domain_draws_its_own_pictures(toy, monkeypatch, capsys):
    def pictures():
        (section,) = told(report.html(compare.rows([made("dense", 0.8)])))["sections"]
        return [(p["caption"], *(source.partition(";")[0] for source in p["sources"])) for p in section["pictures"]]

    assert pictures() == []
    benchmark = domains.load("toy")
    drawn = {"dice": PNG, "a die": b"<svg/>", "a roll": [b"GIF89a", b"RIFF"]}
    monkeypatch.setattr(benchmark, "pictures", lambda results: drawn if len(results) == 1 else {}, raising=False)
    several = ("a roll", "data:image/gif", "data:audio/wav")
    assert pictures() == [("dice", "data:image/png"), ("a die", "data:image/svg+xml"), several]
    monkeypatch.setattr(benchmark, "pictures", lambda results: drawn["lost"])
    assert pictures() == [] and "no pictures of toy, dice" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="the extra test is not installed")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The published studies' page in the browser, whole, with every chart drawn."""
    found = [made(m, 0.5 + s / 10, s, extra={"curve": [0.1, 0.5]}) for m in ("dense", "rigl") for s in (1, 2, 3)]
    for study in sorted(ROOT.glob("*/studies/*/results.jsonl")):
        found += [results.Result.of(json.loads(line)) for line in study.read_text().splitlines()]
    path = tmp_path_factory.mktemp("page") / "report.html"
    failure = Failure(domain="toy", method="rigl", seed=4, error="it broke " * 30, command="gossamer train", config={})
    path.write_text(report.html(compare.rows([domains.current(result) for result in found]), [failure]))
    open_whole(browser, path)
    return path


def open_whole(browser, path, width=1280):
    from selenium.webdriver.support.wait import WebDriverWait

    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())
    WebDriverWait(browser, 30).until(lambda b: b.execute_script("return 'drawn' in document.body.dataset"))
    height = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**metrics, "height": height})
    drawn = "return [...document.querySelectorAll('.plot')].every(p => p.querySelector('svg'))"
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(drawn))


@pytest.mark.parametrize("width", [1280, 768, 390])
def test_it_fits_every_width_without_errors_and_fetches_nothing(browser, page, width):
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    open_whole(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] in ([page.as_uri()], [])


def test_a_long_table_is_shown_in_parts(browser, tmp_path):
    found = [made(f"m{place}", place / 200, config={"method": f"m{place}", "seed": 1}) for place in range(120)]
    (tmp_path / "report.html").write_text(report.html(compare.rows(found)))
    open_whole(browser, tmp_path / "report.html")
    count = browser.find_element("css selector", ".tools span")
    before, after = browser.find_elements("css selector", ".tools button")
    assert count.text == "rows 1 to 50 of 120" and not before.is_enabled()
    after.click()
    after.click()
    assert count.text == "rows 101 to 120 of 120" and not after.is_enabled()
    assert len(browser.find_elements("css selector", "tbody tr")) == 20
    browser.find_element("css selector", "th button").click()
    assert count.text == "rows 1 to 50 of 120"


def test_its_table_sorts_and_filters(browser, page):
    from selenium.webdriver.common.keys import Keys

    open_whole(browser, page)
    section = browser.find_element("css selector", "#vision-fashion-mnist")
    column = "return [...arguments[0].querySelectorAll('tbody tr')].map(r => r.cells[arguments[1]].textContent)"
    heads = section.find_elements("css selector", "th[aria-sort]")
    place = [head.text for head in heads].index("non-zeros")

    def numbers():
        return [int(text.replace(",", "")) for text in browser.execute_script(column, section, place)]

    button = heads[place].find_element("tag name", "button")
    button.click()
    assert numbers() == sorted(numbers(), reverse=True) and heads[place].get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert numbers() == sorted(numbers()) and heads[place].get_attribute("aria-sort") == "ascending"
    whole = int(re.findall(r"\d+", section.find_element("css selector", ".tools span").text)[-1])
    assert 10 < len(numbers()) <= whole
    section.find_element("css selector", "input[type=search]").send_keys("gmp 95")
    methods = browser.execute_script(column, section, 0)
    assert 0 < len(methods) < whole and set(methods) == {"gmp"}
    assert section.find_element("css selector", ".tools span").text == f"{len(methods)} of {whole} rows"


LABELS = """return [...charts].map(([plot, { chart }]) => {
  const shown = chart.getOption().series.filter(series => series.type === "scatter");
  const dots = shown.flatMap(series => series.data.filter(dot => dot.text));
  const names = new Set(dots.filter(dot => dot.label.show).map(dot => dot.text)), home = plot.getBoundingClientRect();
  const box = text => {
    const { left, top, right, bottom } = text.getBoundingClientRect();
    return [text.textContent, left, top, right, bottom];
  };
  return {
    labels: [...plot.querySelectorAll("text")].filter(text => names.has(text.textContent)).map(box),
    dots: dots.map(dot => chart.convertToPixel({ gridIndex: 0 }, dot.value))
      .map(([x, y]) => [home.left + x, home.top + y]),
  };
})"""


def test_no_label_lies_on_another_or_on_a_dot(browser, page):
    open_whole(browser, page)
    found = browser.execute_script(LABELS)
    assert sum(len(chart["labels"]) for chart in found) > 20
    for chart in found:
        boxes = [(name, left, top + 2, right, bottom - 2) for name, left, top, right, bottom in chart["labels"]]
        for place, (name, left, top, right, bottom) in enumerate(boxes):
            assert not any(left < x < right and top < y < bottom for x, y in chart["dots"]), name
            for other, *box in boxes[place + 1 :]:
                assert right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top, (name, other)


def test_the_front_can_be_of_bytes_and_hovering_says_which(browser, page):
    open_whole(browser, page)
    radio = browser.find_element("css selector", "#vision-fashion-mnist input[value=bytes]")
    browser.execute_script("arguments[0].click()", radio)
    name, tip = browser.execute_script("""
        const [plot, known] = [...charts].find(([plot]) => plot.closest('#vision-fashion-mnist'));
        const series = known.chart.getOption().series.find(s => s.name === 'sparse');
        return [known.chart.getOption().xAxis[0].name, series.data[0].tip];""")
    assert name == "bytes" and "top-1" not in tip and "bytes" in tip and "latency" in tip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, page, scheme):
    axe = importlib.util.find_spec("axe_core_python")
    if axe is None or axe.origin is None:
        pytest.skip("axe-core-python is not installed")
    emulated = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    open_whole(browser, page)
    browser.execute_script((Path(axe.origin).parent / "axe.min.js").read_text())
    found = browser.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
