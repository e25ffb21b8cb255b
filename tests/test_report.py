"""The report page: right numbers from every kind of results, everything escaped, and a browser is content with it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shutil
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.report import write_report
from balanceroute_opt.report.charts import _png, ticks
from balanceroute_opt.report.collect import collect
from balanceroute_opt.report.page import render

EVIL = "<script>alert(1)</script>"
CLUSTER = bro.Cluster(workers=3, slots=4)


class Evil:
    mode = "immediate"
    name = EVIL

    def bind(self, view, request):
        return request.index % len(view.load)


class Page(HTMLParser):
    """Tags, texts and the cells of the table."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.rows, self.inside = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(dict(attrs)["data-v"])
        if tag in ("meta", "link", "img", "input", "line"):
            self.inside.pop()

    def handle_endtag(self, tag):
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


@pytest.fixture(scope="module")
def inst():
    return bro.generate("poisson-lognormal", n=60, seed=3).scaled_to(CLUSTER, utilization=1.0).replace(name=EVIL)


@pytest.fixture(scope="module")
def runs(inst):
    return [bro.simulate(inst, CLUSTER, router) for router in ("jsq", Evil(), "least-kv")]


@pytest.fixture(scope="module")
def comparison(inst):
    return bro.compare(inst, CLUSTER, routers=["jsq", Evil(), "random", "least-kv"], seeds=2)


def page_of(source, tmp_path):
    write_report(source, tmp_path / "page.html", command=f"balanceroute report '{EVIL}'", made="today", force=True)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_run(runs, tmp_path):
    run = runs[0]
    text = page_of(run, tmp_path)
    page = Page(text)
    bound = bro.placement_bound(run.instance, CLUSTER, run.schedule.start, method="pigeonhole")
    ratio = bro.hindsight_ratio(run, bound)
    assert repr(run.metrics()["excess"]) in page.rows[1]
    assert repr(ratio.upper) in page.rows[1]
    assert f"attention under jsq takes {100 * run.metrics()['excess']:.1f} % longer" in page.text
    assert "A single replay" in page.text
    assert "made ontoday" in page.text
    assert {"svg", "img", "table"} <= set(page.tags)


def test_picture_has_the_loads(runs):
    run = runs[0]
    (picture,) = collect(run).pictures
    loads = bro.worker_loads(run.instance, CLUSTER, run.schedule)
    width = np.diff(np.append(np.unique(np.arange(240) * len(run.steps) // 240), len(run.steps)))
    assert len(picture.most) == len(width)
    assert (picture.most * width).sum() == pytest.approx(run.peak_sum)
    assert (picture.mean * width).sum() == pytest.approx(run.instance.total_work / CLUSTER.workers)
    bound = bro.placement_bound(run.instance, CLUSTER, run.schedule.start, method="pigeonhole").value
    assert (picture.bound * width).sum() == pytest.approx(bound)
    assert picture.share == pytest.approx(loads.sum(axis=1) / loads.sum() * CLUSTER.workers)
    assert picture.heat.mean(axis=0) == pytest.approx(np.ones(len(width)))
    assert loads.max(axis=0).tolist() == run.peak_loads.tolist()


def test_comparison_keeps_numbers_and_conclusions(comparison, tmp_path):
    page = Page(page_of(comparison, tmp_path))
    for row, cells in zip(comparison.rows, page.rows[1:], strict=True):
        assert cells[0] == row["router"]
        assert {repr(row["excess"]), repr(row["hindsight_upper"])} <= set(cells)
    for sentence in comparison.sentences():
        assert " ".join(sentence.split()) in page.text
    assert "certified when made" in page.text


def test_everything_is_escaped(runs, comparison, tmp_path):
    bro.write_run(runs[1], tmp_path / "evil.json")
    folder = tmp_path / "in"
    folder.mkdir()
    bro.write_run(runs[1], folder / "<b>run.json")
    for source in (runs[1], comparison, folder):
        text = page_of(source, tmp_path)
        page = Page(text)
        assert text.lower().count("<script") == 1, "only the page's own"
        assert page.tags.count("b") == 0
        assert EVIL in page.text
    hostile = comparison.to_json()
    hostile["rows"][0] |= {"wait_unit": EVIL, "bound_method": EVIL, "router": 'x" onclick="alert(1)'}
    hostile |= {"conclusions": [EVIL], "skipped": {EVIL: EVIL}, "window": EVIL}
    hostile["workload"] |= {EVIL: EVIL}
    hostile["rows"][1] |= {"excess": 10**400, "hindsight_upper": 0.5, "tpot_p95": "1", "seeds": EVIL, "half_width": 3}
    page = Page(page_of(hostile, tmp_path))
    assert page.tags.count("script") == 1
    assert not [a for _, a in page.attributes for name in a if name.startswith("on")]


def test_policy_allows_the_pages_own_script_and_nothing_else(runs, tmp_path):
    text = page_of(runs[0], tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'")
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert not [a for _, a in Page(text).attributes if "style" in a]


def test_folder_of_runs_is_grouped_by_what_was_simulated(runs, inst, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    for number, run in enumerate(runs):
        bro.write_run(run, folder / f"{number}.json.gz")
    other = bro.simulate(inst, bro.Cluster(workers=2, slots=8), "jsq")
    bro.write_run(other, folder / "other.parquet")
    bro.write_instance(inst.replace(name="no result"), folder / "instance.json")
    report = collect(folder)
    assert [row.workload for row in report.rows].count(f"{EVIL}, 3 workers x 4 slots") == 3
    assert len(report.sentences) == 2
    assert report.notes == ["Not read, as they are no results: instance.json."]


def test_folder_of_certificates_is_verified(inst, tmp_path):
    proofs = tmp_path / "proofs"
    made = bro.compare(inst, CLUSTER, routers=["jsq", "least-kv"], certificates=proofs)
    report = collect(proofs)
    assert any(note.startswith("No run of any router ends before") for note in report.notes)
    rows = {row.router.removesuffix(".seed0"): row for row in report.rows}
    for row in made.rows:
        shown = rows[row["router"]]
        assert shown.status == "certified"
        assert shown.upper == pytest.approx(row["hindsight_upper"], rel=1e-15)
        assert shown.upper >= row["peak_sum"] / row["bound"][0]
        for name in ("excess", "imbalance_range", "imbalance_sum", "idle", "steps", "peak_sum", "decode_time"):
            assert shown.values[name] == pytest.approx(row[name], rel=1e-12), name
    path = proofs / "jsq.seed0.certificate.json.gz"
    forged = bro.read_certificate(path)
    bro.write_certificate(forged | {"claim": forged["claim"] + 1}, path, force=True)
    with pytest.raises(bro.CertificateError, match="claims"):
        collect(proofs)


def test_table_of_a_study(tmp_path):
    (tmp_path / "s.toml").write_text(
        'routers = ["jsq", "least-kv"]\nseeds = 3\nutilizations = [0.8, 1.1]\n'
        '[[workloads]]\ngenerate = "poisson-lognormal"\nn = 40\n[[clusters]]\nworkers = 2\nslots = 4\n'
    )
    for name in ("t.parquet", "t.csv"):
        assert main(["run", str(tmp_path / "s.toml"), "-o", str(tmp_path / name)]) == 0
    report, same = collect(tmp_path / "t.parquet"), collect(tmp_path / "t.csv")
    assert report.rows == same.rows
    assert len(report.rows) == 4
    assert {row.runs for row in report.rows} == {3}
    assert all(row.half["excess"] is not None and row.status == "stated" for row in report.rows)
    for line, load in zip(report.sentences, ("0.8", "1.1"), strict=True):
        assert line.startswith(f"On poisson-lognormal, utilization {load}, ")
        assert "mean of 3 runs, ±" in line
    Page(page_of(tmp_path / "t.csv", tmp_path))


def test_preempted_run_has_no_bound(inst, tmp_path):
    run = bro.simulate(inst, bro.Cluster(workers=3, slots=4, kv_capacity=6000), "jsq")
    assert run.preemptions
    report = collect(run)
    assert report.rows[0].upper is None
    assert report.pictures[0].heat is None
    assert "preempted" in Page(page_of(run, tmp_path)).text


@pytest.mark.parametrize("n", [0, 1])
def test_small_runs(n, tmp_path):
    run = bro.simulate(bro.Instance([0] * n, [5] * n, [1] * n), CLUSTER, "jsq")
    assert "Results" in Page(page_of(run, tmp_path)).text


def test_a_run_that_states_other_loads_is_refused(runs, tmp_path):
    path = tmp_path / "run.json"
    bro.write_run(runs[0], path)
    data = json.loads(path.read_text())
    data["steps"]["peak"][0] -= 1
    path.write_text(json.dumps(data))
    with pytest.raises(bro.InputError, match="states largest loads that are not those"):
        collect(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.json", None, "no such file or folder"),
        ("a.json", "{}", "is no saved run"),
        ("a.json", '{"schema": "balanceroute/study-result"}', "give the table that it names"),
        ("a.json", '{"schema": "balanceroute/comparison", "version": 2}', "version 1"),
        ("a.json", '{"schema": "balanceroute/comparison", "version": 1, "rows": []}', "workload and cluster"),
        (
            "a.json",
            '{"schema": "balanceroute/comparison", "version": 1, "workload": {}, "cluster": {}, "rows": [{}]}',
            r"rows\[0\]",
        ),
        ("a.csv", "x,y\n1,2\n", "no column workload"),
        ("a.csv", "", "not a table"),
        ("a.parquet", "junk", "not a Parquet file"),
        ("a.txt", "junk", "is no saved run"),
    ],
)
def test_bad_results_are_one_line(name, text, message, tmp_path, capsys):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(bro.InputError, match=message):
        collect(path)
    assert main(["report", str(path), "-o", str(tmp_path / "page.html")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert name in captured.err
    assert not (tmp_path / "page.html").exists()


def test_command(comparison, tmp_path, monkeypatch, capsys):
    source = tmp_path / "c.json"
    source.write_text(json.dumps(comparison.to_json()))
    page = tmp_path / "page.html"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert main(["report", str(source), "-o", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "results": str(source), "page": str(page), "bytes": page.stat().st_size
    }  # fmt: skip
    first = page.read_bytes()
    assert b"1970-01-01 00:00 UTC" in first
    assert b"balanceroute report" in first
    assert main(["report", str(source), "-o", str(page)]) == 2, "not replaced unasked"
    assert main(["report", str(source), "-o", str(page), "--force"]) == 0


def test_empty_folder(tmp_path):
    with pytest.raises(bro.InputError, match="holds no saved run"):
        collect(tmp_path)


def test_ticks_are_round_and_few():
    assert ticks(0, 99) == [0, 20, 40, 60, 80]
    assert ticks(1, 1.2863) == [1.0, 1.1, 1.2]
    for high in (1.0001, 1.003, 1.7, 9, 1234):
        marks = ticks(1.0, high)
        assert 1 <= len(marks) <= 6
        assert all(1 - 1e-9 <= m <= high + 1e-9 for m in marks)


def test_png_holds_the_values():
    values = np.array([[0.0, 1.0, 2.0], [5.0, 0.5, 1.0]])
    data = _png(values)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    start = data.index(b"IDAT") + 4
    raw = np.frombuffer(zlib.decompress(data[start : data.index(b"IEND") - 8]), np.uint8).reshape(2, 10)
    pixels = raw[:, 1:].reshape(2, 3, 3)
    assert pixels[0, 1].tolist() == pixels[1, 2].tolist() == [244, 244, 242]
    assert pixels[0, 0].tolist() == [33, 85, 145]
    assert pixels[0, 2].tolist() == pixels[1, 0].tolist() == [178, 72, 16]


@contextlib.contextmanager
def browser():
    """Headless Chromium, with logs of its console and network."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield page
    finally:
        page.quit()


def test_in_a_browser(comparison, runs, tmp_path):
    from_runs = tmp_path / "runs"
    from_runs.mkdir()
    for run in runs:
        bro.write_run(run, from_runs / f"{runs.index(run)}.json")
    pages = {"comparison.html": comparison, "runs.html": from_runs}
    for name, source in pages.items():
        (tmp_path / name).write_text(render(collect(source), command=EVIL), encoding="utf-8")

    def emulate(width, scheme):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def column(number):
        script = "return [...document.querySelectorAll('#results tbody tr')].map(r => r.cells[arguments[0]].dataset.v)"
        return page.execute_script(script, number)

    with browser() as page:
        for name in pages:
            for width in (1280, 400):
                backs = set()
                for scheme in ("light", "dark"):
                    emulate(width, scheme)
                    page.get((tmp_path / name).as_uri())
                    for everything in (False, True):
                        if everything:
                            page.find_element("id", "all").send_keys(" ")
                        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
                        assert page.execute_script(wide) <= 0, (name, width, scheme, everything)
                    backs.add(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
                assert len(backs) == 2, "dark mode looks like light mode"

        # Sorting, by keyboard: Enter on the head of a column sorts, another turns the order.
        emulate(1280, "light")
        page.get((tmp_path / "comparison.html").as_uri())
        heads = page.find_elements("css selector", "#results thead button")
        number = next(k for k, head in enumerate(heads) if head.text.startswith("excess"))
        heads[number].send_keys("\n")
        values = [float(v) for v in column(number)]
        assert values == sorted(values)
        assert len(set(values)) > 1
        heads[number].send_keys("\n")
        assert [float(v) for v in column(number)] == sorted(values, reverse=True)
        assert page.execute_script("return document.querySelectorAll('[aria-sort=descending]').length") == 1
        heads[0].send_keys("\n")
        assert column(0)[0] == EVIL

        # The focus goes through the page by Tab alone, and the filter keeps what it says.
        page.get((tmp_path / "comparison.html").as_uri())
        reached = set()
        for _ in range(25):
            page.switch_to.active_element.send_keys("\t")
            reached.add(page.execute_script("return document.activeElement.id || document.activeElement.tagName"))
        assert {"filter", "all", "BUTTON"} <= reached
        page.find_element("id", "filter").send_keys("alert")
        assert page.find_element("id", "count").text == f"1 of {len(comparison.rows)} rows"
        shown = [row for row in page.find_elements("css selector", "#results tbody tr") if row.is_displayed()]
        assert [row.find_element("css selector", "td").text for row in shown] == [EVIL]

        # On a narrow screen the select sorts.
        emulate(400, "dark")
        page.get((tmp_path / "comparison.html").as_uri())
        option = f"#by option[value='{number}']"
        page.find_element("css selector", option).click()
        assert [float(v) for v in column(number)] == sorted(values)

        assert page.get_log("browser") == [], "console"
        asked = {
            message["params"]["request"]["url"]
            for entry in page.get_log("performance")
            if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
        }
        elsewhere = [url for url in asked if not url.startswith("data:")]
        assert sorted(elsewhere) == sorted((tmp_path / name).as_uri() for name in pages)
