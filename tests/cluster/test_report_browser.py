"""The report in a real browser, Debian's Chromium: what it shows, requests and obeys.

Needs the package playwright and the program chromium. The check of accessibility needs axe-core, whose
script is looked for in DMNET_TEST_AXE and in build/tools (npm install --prefix build/tools axe-core).
"""

import os
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.evaluating import score_table
from cluster.reporting.config import ReportConfig
from cluster.reporting.job import write_report
from cluster.reporting.methods import write_methods_page
from dmnet_core.metrics import METRICS
from tests.cluster.outputs import write_output
from tests.e2e.hostile import CASES

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

expect = sync_api.expect
expect.set_options(timeout=60_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(
    os.environ.get("DMNET_TEST_AXE")
    or Path(__file__).resolve().parents[2] / "build/tools/node_modules/axe-core/axe.min.js"
)
PLAIN = [f"set{place % 3}/{place:03d}" for place in range(30)]
HOSTILE = [
    *(case.pair_id for case in CASES.values() if not case.pair_id.startswith(("content/", "links/"))),
    "</script><img src=x onerror=document.title='owned'>",
    "' onmouseover='document.title=1",
    "javascript:document.title='owned'",
    "#pair=%00%",
]
WAIT_MS = 60_000
"""Longest wait for one thing in the page; a machine with other work is slow."""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    """The URL of a report on ordinary and hostile pairs, opened from its folder."""
    output = tmp_path_factory.mktemp("report") / "out"
    names = [*PLAIN, *dict.fromkeys(HOSTILE)]
    number = len(names)
    write_output(
        str(output),
        names,
        carried={
            "camera": [HOSTILE[place % 5] for place in range(number)],
            "<b>t</b>": [float(p) for p in range(number)],
        },
        rejected=[(name, "truncated", f"detail {name}") for name in HOSTILE],
        places=[
            ("EPSG:32632", f"10.0 0.0 {500_000 + 2000 * place}.0 0.0 -10.0 5000000.0")
            for place in range(number)
        ],
    )
    write_report(ReportConfig(output_url=str(output), num_images=len(names)))
    return (output / "report/index.html").as_uri()


@pytest.fixture(scope="module")
def methods_url(tmp_path_factory):
    """The URL of a page that shows ten methods side by side, on ordinary and hostile pairs."""
    output = tmp_path_factory.mktemp("methods")
    methods = ["ours", *(f"method {number}" for number in range(9))]
    names = list(dict.fromkeys([*PLAIN[:3], *HOSTILE]))
    scores = pd.DataFrame(
        {"pair_id": name, "set": name[:4], "method": method, "height": 96, "width": 128,
         **{metric: float(place + at * (1 + number % 3)) for at, metric in enumerate(METRICS)}}
        for number, name in enumerate(names) for place, method in enumerate(methods)
    )  # fmt: skip
    problems = pd.DataFrame(columns=["method", "set", "reason"])
    picture = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    write_methods_page(
        str(output),
        scores=scores,
        methods=methods,
        tables=score_table.sections(score_table.means(scores, problems, methods)),
        heading="Fused images as they are, no stretch",
        warning="",
        read_pictures=lambda name: dict.fromkeys(("ir", "vis", *methods), picture),
        num_images=len(names),
    )
    return (output / "report/index.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as running:
        started = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=WAIT_MS
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser, page_url):
    """Open the report, or a pair of it; at the end nothing may have gone wrong or left the folder."""
    contexts, wrong = [], []

    def open_page(fragment="", width=1280, scheme="light", url=page_url, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on(
            "console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        folder = url.rpartition("/")[0]
        page.on(
            "request",
            lambda asked: (
                wrong.append(asked.url) if not asked.url.startswith((folder, "data:")) else None
            ),
        )
        page.goto(url + fragment)
        page.wait_for_selector("html[data-ready=true]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def is_shown(letter):
    """Whether the page shows a letter as it is, and not as a question mark."""
    return unicodedata.category(letter) not in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")


def luminance(colour):
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1920, "light"), (1920, "dark")]
)
def test_the_page_is_readable_in_every_width_and_colour_scheme(opened, width, scheme):
    page = opened(width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing to scroll sideways
    body = page.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    ink, paper = map(luminance, body)
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7  # WCAG AAA for text
    assert (paper < 0.1) == (scheme == "dark")
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 14
    for chart in ("distribution", "scatter", "rates", "durations", "map"):
        box = page.locator(f"#chart-{chart} canvas").first.bounding_box()
        assert box["width"] > 250 and box["height"] > 200, chart


def test_lists_search_and_brush_show_the_pairs_that_they_say(opened):
    page = opened()
    page.select_option("#extremes-metric", "SD")
    page.check("input[value=best]")
    assert page.locator("#gallery li").count() == 24
    values = [
        float(text.split()[-1]) for text in page.locator("#gallery .caption span").all_inner_texts()
    ]
    assert values == sorted(values, reverse=True)
    page.fill("#search-text", "set1/")
    expect(page.locator("#search-status")).to_have_text("10 pairs found")
    page.fill("#search-condition", "SD > 3 and not (\"<b>t</b>\" < 5 or pair_id like '%9')")
    shown = page.locator("#search-table tbody th").all_inner_texts()
    assert shown and all(int(name[-3:]) >= 5 and not name.endswith("9") for name in shown)
    for wrong, said in (
        ("SD >", "missing"),
        ("nope = 1", "no column nope"),
        ("SD > 1; alert(1)", "not understood"),
    ):
        page.fill("#search-condition", wrong)
        assert said in page.inner_text("#search-status")
    page.fill("#search-condition", "")
    box = page.locator("#chart-scatter canvas").first.bounding_box()
    page.locator("#chart-scatter").scroll_into_view_if_needed()
    box = page.locator("#chart-scatter canvas").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.05)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=5)
    page.mouse.up()
    expect(page.locator("#brush-status")).to_have_text(re.compile(r"\d+ pairs? in the brush"))
    number = int(page.inner_text("#brush-status").split()[0])
    assert page.locator("#brush-table tbody tr").count() == number
    low, high = float(page.input_value("#brush-x0")), float(page.input_value("#brush-x1"))
    listed = [float(text) for text in page.locator("#brush-table td:nth-child(2)").all_inner_texts()]
    assert listed and all(low - 0.01 <= value <= high + 0.01 for value in listed)


def test_the_keyboard_alone_opens_a_pair_moves_its_images_and_comes_back(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#brush-x0")
    page.keyboard.type("-100")
    page.keyboard.press("Tab")
    expect(page.locator("#brush-table tbody tr")).to_have_count(len(PLAIN) + len(set(HOSTILE)))
    page.locator("#gallery a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#pair:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "pair-title"
    expect(page.locator("#viewer-zoom")).to_have_text(re.compile(r"\d+ %"))
    page.focus("#stage")
    before = page.evaluate("document.querySelector('#stage-left').style.transform")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.querySelector('#stage-left').style.transform") != before
    page.focus("#viewer-slider")
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelector('#stage-line').style.left") == "0px"
    page.focus("#pair-back")
    page.keyboard.press("Enter")
    page.wait_for_selector("#report:not([hidden])")


def test_a_link_opens_its_pair_with_images_metrics_ranges_and_sources(opened):
    page = opened("#pair=set2/002")
    assert page.inner_text("#pair-title") == "set2/002"
    expect(page.locator("#stage-right")).to_have_js_property("naturalWidth", 128)
    rows = page.locator("#pair-metrics tbody tr").count()
    assert rows == 13  # eleven metrics, valid_share and seconds
    facts = page.inner_text("#pair-facts")
    assert "0 to 255" in facts and "2-ir.png" in facts and "EPSG:32632" in facts
    page.evaluate("location.hash = '#pair=nobody'")
    expect(page.locator("#pair-title")).to_have_text("nobody")
    assert page.inner_text("#pair-note") == "No fused pair has this name."
    page.evaluate("location.hash = '#pair=%E0%A4%A'")  # no UTF-8
    expect(page.locator("#pair-title")).to_have_text("%E0%A4%A")


def test_hostile_names_run_nothing_and_open_as_any_other(opened):
    page = opened()
    title = page.title()
    elements = page.evaluate("document.querySelectorAll('script, iframe, object, embed').length")
    assert elements == 3
    page.select_option("#distribution-group", label="camera")
    for name in dict.fromkeys(HOSTILE):
        page.fill("#search-text", name.replace("\r", "").replace("\n", "")[:60])
        page.evaluate("name => { location.hash = `#pair=${encodeURIComponent(name)}`; }", name)
        shown = "".join(letter if is_shown(letter) else "?" for letter in name)
        expect(page.locator("#pair-title bdi")).to_have_js_property("textContent", shown)
        expect(page.locator("#pair-metrics tbody tr")).to_have_count(13)
        assert page.locator("#pair-title *").count() == 1  # the element for its direction of reading
        page.hover("#pair-title")
        page.evaluate("location.hash = '#report'")
        page.wait_for_selector("#report:not([hidden])")
    assert page.title() == title
    assert page.evaluate("document.querySelectorAll('script, iframe, object, embed').length") == elements


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1920, "dark")])
def test_methods_are_shown_side_by_side_and_zoomed_together(opened, methods_url, width, scheme):
    page = opened(url=methods_url, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#gallery li").count() == 3 + len(set(HOSTILE))
    page.locator("#gallery a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#pair:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    stages = page.locator(".stage")
    expect(stages).to_have_count(2 + 8)
    expect(page.locator("#viewer-zoom")).to_have_text(re.compile(r"\d+ %"))
    assert page.locator("#pair-methods input:disabled").count() == 2  # eight at once
    page.locator("#pair-methods input:checked").first.uncheck()
    expect(stages).to_have_count(2 + 7)
    assert page.locator("#pair-methods input:disabled").count() == 0
    before = page.locator(".stage img").first.get_attribute("style")
    stages.last.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    after = page.locator(".stage img").evaluate_all("all => all.map((each) => each.style.transform)")
    assert len(set(after)) == 1 and after[0] not in before
    assert page.locator("#pair-scores tbody tr").count() == 10
    assert page.locator("#pair-scores b").count() == len(METRICS)  # one method is the best in each


def test_hostile_names_run_nothing_beside_other_methods(opened, methods_url):
    page = opened(url=methods_url)
    title = page.title()
    for name in dict.fromkeys(HOSTILE):
        page.evaluate("name => { location.hash = `#pair=${encodeURIComponent(name)}`; }", name)
        shown = "".join(letter if is_shown(letter) else "?" for letter in name)
        expect(page.locator("#pair-title bdi")).to_have_js_property("textContent", shown)
        expect(page.locator(".stage")).to_have_count(2 + 8)
    page.evaluate("location.hash = '#pair=nobody'")
    expect(page.locator("#pair-note")).to_contain_text("no images of the pair")
    page.evaluate("location.hash = '#report'")
    page.wait_for_selector("#report:not([hidden])")
    assert page.title() == title
    assert page.evaluate("document.querySelectorAll('script, iframe, object, embed').length") == 2


@pytest.mark.parametrize("fragment", ["", "#pair=set2/002"])
def test_axe_finds_no_barrier_beside_other_methods(opened, methods_url, fragment):
    check_axe(opened(fragment, url=methods_url, bypass_csp=True))


@pytest.mark.parametrize(
    ("fragment", "scheme"),
    [
        ("", "light"),
        ("#pair=set2/002", "dark"),
        pytest.param("", "dark", marks=pytest.mark.slow),
        pytest.param("#pair=set2/002", "light", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_no_barrier(opened, fragment, scheme):
    check_axe(opened(fragment, scheme=scheme, bypass_csp=True))


def check_axe(page):
    """Let axe-core look at a page, which breaks none of its rules."""
    if not AXE.is_file():
        pytest.skip(f"axe-core is absent: npm install --prefix build/tools axe-core, or set {AXE}")
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("async () => (await axe.run()).violations")
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == []
