"""The explorers where learners meet them: moved in a real JupyterLab by a real browser, and without a kernel.

`lab`, `browser`, `page` and `open_and_run` serve every test that needs a browser. With SHOTS=folder the
screenshots are kept there.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import run_notebooks
from nbconvert import HTMLExporter
from playwright.sync_api import expect, sync_playwright

from clbook import plots, runs
from clbook.training import TrainConfig

pytestmark = pytest.mark.browser

SECONDS = 60  # for anything that a busy machine may make wait
SETTINGS = {  # no news pop-up; every cell in the page, seen or not; nothing saved behind a test's back
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}


@dataclass
class Lab:
    url: str
    token: str
    root: Path  # the folder it serves: put notebooks here


@pytest.fixture(scope="session")
def chromium():
    """The path of a Chromium, or a skip that says how to get one (in CI: a failure)."""
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, names)]
    with sync_playwright() as playwright:
        found.append(playwright.chromium.executable_path)  # where `playwright install` puts its own
    for path in filter(None, found):
        if Path(path).exists():
            return path
    advice = (
        "no Chromium found. Install one (`apt-get install chromium`, or anywhere "
        "`python -m playwright install chromium`), or set CHROMIUM to the path of yours."
    )
    pytest.fail(advice) if os.environ.get("CI") else pytest.skip(advice)


@pytest.fixture(scope="session")
def browser(chromium):
    flags = ["--disable-dev-shm-usage", "--disable-gpu"]
    if _is_root():
        flags.append("--no-sandbox")  # Chromium's sandbox refuses root, which containers run as
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=flags, timeout=SECONDS * 1000)
        yield instance
        instance.close()


@pytest.fixture
def page(browser):
    """A page on a high-density screen. `page.problems` collects the errors of its console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, device_scale_factor=2)
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    context.close()


@pytest.fixture(scope="session")
def lab(chromium):
    """A JupyterLab of our own: loopback only, a random token, and none of the user's settings."""
    # A short path: Unix sockets, which the kernels talk over, allow about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="lab", dir="/tmp" if os.name == "posix" else None) as folder:
        folder = Path(folder)
        for name, setting in SETTINGS.items():
            file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(setting))
        (folder / "root").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(24), folder / "root")
        with open(folder / "log", "w+") as log:
            server = _start_server(folder, port, lab.token, log)
            try:
                _wait_until_up(server, lab, log)
                yield lab
            finally:
                _stop(server)


def _start_server(folder, port, token, log):
    own = {
        "JUPYTER_TOKEN": token,  # in the environment: `ps` shows a command line to everyone
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "MPLCONFIGDIR": "matplotlib",
    }
    folders = {name: value if name == "JUPYTER_TOKEN" else str(folder / value) for name, value in own.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder / 'root'}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    if os.name == "posix":
        command.append("--KernelManager.transport=ipc")  # kernels over TCP race for ports
    if _is_root():
        command.append("--allow-root")
    return subprocess.Popen(
        command, env=os.environ | folders, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def _wait_until_up(server, lab, log):
    request = urllib.request.Request(lab.url + "/api/status", headers={"Authorization": f"token {lab.token}"})
    deadline = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            return urllib.request.urlopen(request, timeout=2).close()
        except OSError:
            time.sleep(0.1)
    log.seek(0)
    raise RuntimeError(f"JupyterLab did not come up:\n{log.read()}")


def _stop(server):
    server.terminate()  # the server shuts its kernels down first
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL) if os.name == "posix" else server.kill()
        server.wait(20)


def _is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0


# The status light says idle before the kernel is connected: ask the kernel itself. And evaluate() has no
# time-out of its own.
RUN = """async ([ids, ms]) => {
    const late = new Promise((_, no) => setTimeout(() => no(new Error('not done in ' + ms + ' ms')), ms));
    const run = async () => {
        const app = window.jupyterapp;
        await app.restored;
        const panel = app.shell.currentWidget, session = panel.sessionContext, cells = panel.content;
        await panel.context.ready; await panel.revealed; await session.ready;
        const kernel = session.session && session.session.kernel;
        if (!kernel) throw new Error('no kernel');
        await kernel.info;
        if (ids === null) await app.commands.execute('notebook:run-all-cells');
        else for (const id of ids) {
            cells.activeCellIndex = cells.widgets.findIndex(cell => cell.model.id === id);
            if (cells.activeCell.model.id !== id) throw new Error('no cell ' + id);
            cells.deselectAll();
            await app.commands.execute('notebook:run-cell');
        }
        await kernel.requestKernelInfo();
    };
    await Promise.race([run(), late]);
}"""


def open_notebook(page, lab, name):
    """Open `name`, relative to `lab.root`, in a workspace of its own: no tabs from the test before."""
    page.goto(f"{lab.url}/lab/workspaces/{secrets.token_hex(4)}/tree/{name}?token={lab.token}")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")


def open_and_run(page, lab, name, cells=None, seconds=SECONDS):
    """Open a notebook and run it, all of it or the cells with these ids in this order; no cell may fail."""
    open_notebook(page, lab, name)
    run(page, cells, seconds)


def run(page, cells=None, seconds=SECONDS):
    page.evaluate(RUN, [cells, 1000 * seconds])
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == 0, errors.all_inner_texts()


def pixels(image):
    """The decoded pixels of an <img>, as a short string that differs when they do; its size comes first."""
    return image.evaluate("""async img => {
        await img.decode();
        const canvas = document.createElement('canvas');
        canvas.width = img.naturalWidth; canvas.height = img.naturalHeight;
        const g = canvas.getContext('2d'); g.drawImage(img, 0, 0);
        const data = g.getImageData(0, 0, canvas.width, canvas.height).data;
        let hash = 0, ink = 0;
        for (let i = 0; i < data.length; i += 4) {
            hash = (hash * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2]) | 0;
            if (data[i] < 200) ink++;
        }
        return `${canvas.width}x${canvas.height} ${ink > 2000 ? 'ink' : 'blank'} ${hash}`;
    }""")


def wait_for_another(page, image, seen):
    """The pixels of the image once they are none of those seen."""
    deadline = time.monotonic() + SECONDS
    while (now := pixels(image)) in seen:
        assert time.monotonic() < deadline, "the picture did not change"
        page.wait_for_timeout(30)
    return now


def screenshot(page, folder, name):
    page.screenshot(path=Path(os.environ.get("SHOTS", folder)) / f"{name}.png")


def explorer_notebook(name, *more):
    return nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("## Move the sliders"),
            nbformat.v4.new_code_cell(f"from clbook.explorers import {name}\n\n{name}()", id="slide"),
            nbformat.v4.new_markdown_cell("*The text below the explorer must stay where it is.*"),
            *more,
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


@pytest.fixture(scope="session")
def stored_notebook(tmp_path_factory):
    """The notebook's file as the repository would keep it: run and normalised, without live widgets."""
    path = tmp_path_factory.mktemp("stored") / "stored.ipynb"
    nbformat.write(explorer_notebook("temperature"), path)
    assert run_notebooks.run(path)
    return path


def test_sliders_move_the_picture_and_the_sentence(page, lab, tmp_path):
    other = nbformat.v4.new_code_cell("raise RuntimeError('a long training, which this test leaves out')")
    nbformat.write(explorer_notebook("temperature", other), lab.root / "temperature.ipynb")
    open_and_run(page, lab, "temperature.ipynb", cells=["slide"])
    image = page.locator(".jp-OutputArea-output .widget-image")
    sentence = page.get_by_role("status").filter(has_text="the positive")
    handles, readouts = page.locator(".widget-slider .noUi-handle"), page.locator(".widget-readout")
    image.scroll_into_view_if_needed()
    below = page.get_by_role("emphasis")
    places = image.bounding_box(), below.bounding_box()
    seen = [pixels(image)]
    assert seen[0].startswith("1280x784 ink")  # twice 640x392: crisp on this screen
    assert (places[0]["width"], places[0]["height"]) == (640, 392)
    screenshot(page, tmp_path, "temperature-start")

    def moved(readout, begins):
        """The picture and the sentence follow the slider, and nothing else on the page moves."""
        expect(readouts.nth(readout)).to_have_text(re.compile(begins))
        tau, positive = (text.replace("-", "−") for text in readouts.all_inner_texts())
        expect(sentence).to_have_text(re.compile(rf"^τ = {tau}: the positive \(similarity {positive}\)"))
        seen.append(wait_for_another(page, image, seen))
        assert (image.bounding_box(), below.bounding_box()) == places

    handles.nth(0).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    moved(0, r"^0\.18$")
    for _ in range(20):  # faster than pictures can be drawn: the last one wins
        page.keyboard.press("ArrowRight")
    moved(0, r"^2\.2$")
    _drag(page, handles.nth(0), page.locator(".widget-slider .noUi-target").nth(0), to=0.2)
    moved(0, r"^0\.0[345]")
    _drag(page, handles.nth(1), page.locator(".widget-slider .noUi-target").nth(1), to=0.25)
    moved(1, r"^[-−]0\.5")
    screenshot(page, tmp_path, "temperature-moved")
    assert page.problems == []


@pytest.mark.parametrize("name", ["vectors", "margin", "queue"])
def test_each_slider_of_an_explorer_moves_its_picture(page, lab, tmp_path, name):
    nbformat.write(explorer_notebook(name), lab.root / f"{name}.ipynb")
    open_and_run(page, lab, f"{name}.ipynb", cells=["slide"])
    image, handles = page.locator(".jp-OutputArea-output .widget-image"), page.locator(".widget-slider .noUi-handle")
    image.scroll_into_view_if_needed()
    below = page.get_by_role("emphasis")
    places = image.bounding_box(), below.bounding_box()
    seen = [pixels(image)]
    assert " ink " in seen[0] and handles.count() > 1
    for i in range(handles.count()):
        readout = page.locator(".widget-readout").nth(i)
        before = readout.inner_text()
        handles.nth(i).focus()
        page.keyboard.press("ArrowRight")
        if readout.inner_text() == before:  # it stood at the end of its range
            page.keyboard.press("ArrowLeft")
        expect(readout).not_to_have_text(before)
        seen.append(wait_for_another(page, image, seen))
        assert (image.bounding_box(), below.bounding_box()) == places
    screenshot(page, tmp_path, f"{name}-moved")
    assert page.problems == []


def _drag(page, handle, track, to):
    """Drag a slider's handle with the mouse to a fraction of its track."""
    start, line = handle.bounding_box(), track.bounding_box()
    y = start["y"] + start["height"] / 2
    page.mouse.move(start["x"] + start["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(line["x"] + to * line["width"], y, steps=8)
    page.mouse.up()


@pytest.mark.parametrize("template", ["classic", "lab"])
def test_the_panel_stands_in_a_page_without_a_kernel(page, stored_notebook, tmp_path, template):
    page.route("http*://**", lambda route: route.fulfill(body=""))  # no CDN is needed, none is asked
    file = tmp_path / "temperature.html"
    body, _ = HTMLExporter(template_name=template).from_filename(stored_notebook)
    file.write_text(body, encoding="utf-8")
    page.goto(file.as_uri())
    image = page.get_by_role("img")
    expect(image).to_be_visible()
    if template == "classic":  # nbconvert 7.17's lab template drops every alt text
        begins = "Temperature explorer, 4 settings side by side. τ = 0.02: the positive (similarity 0.70) takes"
        expect(image).to_have_accessible_name(re.compile("^" + re.escape(begins)))
    assert " ink " in pixels(image)
    box = image.bounding_box()
    assert box["width"] > 600 and box["x"] + box["width"] <= 1280  # neither a stamp nor cut off
    image.scroll_into_view_if_needed()
    screenshot(page, tmp_path, f"temperature-{template}-page")


def test_the_panel_stands_in_a_notebook_until_it_is_run(page, lab, stored_notebook, tmp_path):
    shutil.copy(stored_notebook, lab.root)
    open_notebook(page, lab, "stored.ipynb")
    panel, sliders = page.locator(".jp-RenderedImage img"), page.locator(".widget-slider")
    expect(panel).to_be_visible()
    assert " ink " in pixels(panel) and sliders.count() == 0
    panel.scroll_into_view_if_needed()
    screenshot(page, tmp_path, "temperature-opened")
    run(page)
    expect(sliders).to_have_count(2)
    expect(panel).to_have_count(0)
    assert page.problems == []


def test_lesson_00_opens_and_its_slider_moves(page, lab, tmp_path):
    shutil.copy(run_notebooks.ROOT / "notebooks" / "00_start_here.ipynb", lab.root)
    open_and_run(page, lab, "00_start_here.ipynb", cells=["imports", "temperature"])
    image = page.locator(".jp-OutputArea-output .widget-image")
    handle = page.locator(".widget-slider .noUi-handle").first
    image.scroll_into_view_if_needed()
    before = pixels(image)
    handle.focus()
    page.keyboard.press("ArrowRight")
    wait_for_another(page, image, [before])
    screenshot(page, tmp_path, "lesson-00")
    assert page.problems == []


# --- the report of a run ---


def test_a_report_opens_offline(page, tmp_path):
    folder = tmp_path / "a <b> & 'c'"  # the folder's name stands in the page
    config = TrainConfig.for_data("digits", n=64, width=4, batch_size=8, steps=2, device="cpu", precision="fp32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "tsne", lambda features: features[:, :2].numpy())
        line, _ = runs.train(config, folder, progress=False)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto((folder / "report.html").as_uri())
    images = page.get_by_role("img")
    expect(images).to_have_count(3)
    for i, begins in enumerate(("Two curves over training.", "Maps of 270 pictures", "5 test pictures, and beside")):
        expect(images.nth(i)).to_have_accessible_name(re.compile(f"^{begins}"))
        assert images.nth(i).evaluate("image => image.complete && image.naturalWidth > 300")
    expect(page.get_by_text(line, exact=True)).to_be_visible()
    expect(page.get_by_role("row", name=re.compile(r"^width 4 None channels"))).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("simclr on digits")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    screenshot(page, tmp_path, "report")
    elsewhere = [url for url in asked if not url.startswith("data:")]
    assert elsewhere == [(folder / "report.html").as_uri()] and said == page.problems == []


# --- the embedding map: 10,000 pictures ---

MANY = """import numpy as np
import torch

from clbook.explorers import embedding_map

rng = np.random.default_rng(0)
points = rng.uniform(-0.7, 0.7, (10_000, 2))
points[:2] = (1, 1), (-1, -1)  # two of them stand alone in the corners
labels = torch.from_numpy(rng.integers(0, 5, 10_000))
features = torch.from_numpy(rng.normal(size=(10_000, 16)))
images = torch.from_numpy(rng.integers(0, 256, (10_000, 3, 1, 1), dtype=np.uint8)).expand(-1, -1, 16, 16)
"""
SHOW = "embedding_map(points, images, labels, ['bar', 'cross', 'ring', 'star', 'disc'], features=features)"
FRAMES = """async ([map, moves]) => {
    const canvas = map.querySelector('canvas'), box = canvas.getBoundingClientRect(), frames = [], replies = [];
    const drawn = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    for (let i = 0; i < moves; i++) {
        const clientX = box.left + 40 + (i * 97) % 480, clientY = box.top + 40 + (i * 61) % 380;
        const started = performance.now(), before = map.dataset.hover;
        canvas.dispatchEvent(new PointerEvent('pointermove', {clientX, clientY}));
        if (map.dataset.hover === before) continue;
        replies.push(performance.now() - started);
        canvas.dispatchEvent(new KeyboardEvent('keydown', {key: i % 2 ? 'ArrowLeft' : 'ArrowRight'}));
        await drawn();
        frames.push(parseFloat(map.dataset.frame));
    }
    const median = times => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    return [median(frames), median(replies), frames.length];
}"""  # milliseconds to draw all points, and from the pointer's move to the picture


def test_a_map_of_10_000_pictures_answers_the_pointer(page, lab, tmp_path):
    elsewhere = []
    page.on("request", lambda request: request.url.startswith(("http", "ws")) and elsewhere.append(request.url))
    cell = nbformat.v4.new_code_cell(MANY + SHOW, id="map")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata=explorer_notebook("temperature").metadata),
        lab.root / "map.ipynb",
    )
    open_and_run(page, lab, "map.ipynb", cells=["map"])
    inside = {}
    exec(MANY.partition("from clbook")[0] + MANY.partition("embedding_map\n")[2], inside)
    shown = page.locator(".clbook-map")
    canvas, large = (
        shown.locator("canvas").first,
        shown.locator("canvas").nth(7),
    )  # two layers, five signs of the legend
    expect(shown).to_have_attribute("data-inside", "10000")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert (round(box["width"]), round(box["height"])) == (560, 460)

    alone = box["x"] + 280 + 0.46 * 460, box["y"] + 230 - 0.46 * 460  # where (1, 1) stands
    page.mouse.move(*alone)
    expect(shown).to_have_attribute("data-hover", "0")
    expect(shown).to_contain_text("(no. 0)")
    color = large.evaluate(
        "c => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3)"
    )
    assert color == pytest.approx(inside["images"][0, :, 0, 0].tolist(), abs=4)  # JPEG
    page.mouse.click(*alone)
    features = inside["features"].numpy()
    cosines = features @ features[0] / (features**2).sum(1) ** 0.5
    nearest = [row for row in (-cosines).argsort()[:11].tolist() if row != 0]
    names = [["bar", "cross", "ring", "star", "disc"][label] for label in inside["labels"][nearest].tolist()]
    small = shown.locator("div", has=page.locator("> canvas")).filter(
        has_text=re.compile(r"^(bar|cross|ring|star|disc)$")
    )
    expect(small).to_have_count(10)
    assert small.all_inner_texts() == names
    expect(shown.get_by_role("status")).to_contain_text(re.compile("^Picture 0, .*Its 10 nearest by features: "))
    screenshot(page, tmp_path, "map-clicked")

    frame, reply, count = page.evaluate(FRAMES, [shown.element_handle(), 80])
    print(
        f"10,000 points: {frame:.1f} ms to draw a frame, {reply:.1f} ms from the pointer to its picture, {count} moves"
    )
    assert count > 20 and frame < 100 and reply < 50  # on a busy machine; in peace a fraction of it

    page.mouse.move(box["x"] + 280, box["y"] + 230)
    page.keyboard.down("Shift")
    page.mouse.down()
    for x, y in [(360, 200), (360, 290), (250, 290)]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=5)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(shown.get_by_role("status")).to_contain_text(re.compile(r"^\d+ pictures circled: .* % are circled too\.$"))
    screenshot(page, tmp_path, "map-circled")
    canvas.press("0")  # all in sight again, in the middle
    expect(shown).to_have_attribute("data-inside", "10000")
    page.mouse.move(box["x"] + 280, box["y"] + 230)
    page.mouse.wheel(0, -2400)
    expect(shown).to_have_attribute("data-zoom", re.compile(r"^([3-9]|\d\d)\."))
    assert 0 < int(shown.get_attribute("data-inside")) < 2000
    page.mouse.wheel(0, -2400)
    expect(shown).to_have_attribute("data-inside", re.compile(r"^[1-9]\d?$"))  # few enough: points become pictures
    centre = shown.get_attribute("data-centre")
    page.mouse.down()
    page.mouse.move(box["x"] + 181, box["y"] + 161, steps=6)
    page.mouse.up()
    expect(shown).not_to_have_attribute("data-centre", centre)
    screenshot(page, tmp_path, "map-zoomed")
    canvas.focus()
    page.keyboard.press("0")
    expect(shown).to_have_attribute("data-inside", "10000")
    assert page.problems == []
    assert [url for url in elsewhere if not url.startswith((lab.url, lab.url.replace("http", "ws")))] == []  # no CDN
