"""The page for a browser: real Chromium, static files, the answers of Python."""

import functools
import hashlib
import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import onnx
import pytest
from compare_answers import (
    APPS,
    FILES,
    answers_of,
    as_json,
    asked_of_python,
    compare,
    file_of,
    from_json,
    golden_vectors,
)
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import SEAL_LENGTH

pytestmark = pytest.mark.examples

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples/browser"
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 30_000  # milliseconds: others may have the machine
EVERYTHING = 2**53 - 1  # as many as there are
HOSTILE = "<img src=x onerror=alert(12)>"
ASK = """async ([file, questions]) => {
    const own = (name) => import(new URL(name, location).href);
    const [example, { answerAll }] = await Promise.all([own("recommend.js"), own("ask.mjs")]);
    return answerAll(example, file, questions);
}"""
logger = logging.getLogger(__name__)

Ask = Callable[[str, list[dict[str, Any]]], list[Any]]
Visit = Callable[..., Page]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `built`, which is what `npm run build` makes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here: apt-get install nodejs npm, then make examples")
    if not (EXAMPLE / "node_modules").is_dir():
        pytest.skip("onnxruntime-web is not installed: npm ci --prefix examples/browser")
    root = tmp_path_factory.mktemp("www")
    subprocess.run([node, EXAMPLE / "build.mjs", root / "built"], check=True, capture_output=True)
    return root


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """A plain server of static files; its origin."""
    handler = functools.partial(Quiet, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The Chromium that ATTNREC_CHROMIUM names, or one that is installed."""
    named = os.environ.get("ATTNREC_CHROMIUM")
    path = named or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in ATTNREC_CHROMIUM")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ask(site: Path, server: str, chromium: Browser) -> Iterator[Ask]:
    """ask(name, questions): what `recommend` of the example returns for each, inside the page."""
    folder = site / "ask"
    shutil.copytree(site / "built", folder)
    for file in (HERE / "ask.mjs", *(file_of(name) for name in FILES)):
        shutil.copy(file, folder)
    shutil.copy(file_of("tiny-string"), folder / "model.onnx")
    page = chromium.new_page()
    page.goto(f"{server}ask/")
    expect(page.locator("#items > li")).to_have_count(10)

    def call(name: str, questions: list[dict[str, Any]]) -> list[Any]:
        found: list[Any] = from_json(page.evaluate(ASK, [f"{name}.onnx", as_json(questions)]))
        return found

    yield call
    page.close()


@pytest.fixture
def visit(
    site: Path, server: str, chromium: Browser, request: pytest.FixtureRequest
) -> Iterator[Visit]:
    """Open the page with a model file beside it: visit(file), or with none.

    In the end it has asked nobody else, and nothing stands in the console but what a test allows.
    """
    context = chromium.new_context()
    allowed, faults = [], []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(message.text)

    def call(model: Path | None, width: int = 1200, height: int = 900, console: str = "") -> Page:
        folder = site / re.sub(r"\W", "-", request.node.name)
        shutil.copytree(site / "built", folder, copy_function=os.link)
        if model is not None:
            shutil.copy(model, folder / "model.onnx")
        allowed.append(console or "(?!)")
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.on("console", heard)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: asked.url.startswith((server, "data:"))
                or faults.append(asked.url))  # fmt: skip
        page.goto(f"{server}{folder.name}/")
        return page

    yield call
    context.close()
    assert [fault for fault in faults if not any(re.search(a, fault) for a in allowed)] == []


def ids(page: Page) -> list[str]:
    """The ids that are recommended: below the title, or alone."""
    rows = page.locator("#items > li")
    return [row.get_attribute("data-id") or "?" for row in rows.all()]


def expect_answer(page: Page, recommender: Recommender, history: list[Any]) -> None:
    """The page shows this history, and what is recommended after it, with scores."""
    found = recommender.recommend(history, 10, exclude_seen=True)
    expect(page.locator("#items .score")).to_have_text([f"{score:.3f}" for score in found.scores])
    assert ids(page) == list(map(str, found.item_ids))
    names = found.titles or [""] * 10
    shown = page.locator("#items .name")
    expect(shown).to_contain_text(
        [name or str(item) for name, item in zip(names, found.item_ids, strict=True)]
    )
    expect(page.locator("#chosen > li")).to_have_count(len(history))


@pytest.fixture(scope="module")
def shop() -> Recommender:
    return Recommender.load(file_of("string-int8"))


@pytest.mark.parametrize("name", APPS)
def test_two_hundred_people_get_the_answers_of_python(ask: Ask, name: str) -> None:
    questions, expected = asked_of_python(name)
    likeness = compare(answers_of(ask(name, questions)), expected)
    assert likeness.overlap >= 0.99
    logger.info("%s: %s", name, likeness)


@pytest.mark.parametrize("name", FILES)
def test_the_golden_vectors_of_every_profile_come_out(ask: Ask, name: str) -> None:
    questions, expected = golden_vectors(file_of(name))
    likeness = compare(answers_of(ask(name, questions)), expected)
    logger.info("%s: %s", name, likeness)


@pytest.mark.parametrize("name", FILES)
def test_the_answer_to_nothing_with_everything_in_it_is_the_catalogue(ask: Ask, name: str) -> None:
    recommender = Recommender.load(file_of(name))
    n_items = recommender.info.n_items
    expected = recommender.recommend([], n_items)
    (found,) = ask(name, [{"k": EVERYTHING}])
    titles = {item["id"]: item.get("title") for item in found["items"]}
    assert len(titles) == len(found["items"]) == n_items
    wanted = expected.titles or [None] * n_items
    assert titles == dict(zip(expected.item_ids, wanted, strict=True))


def test_who_is_unknown_is_answered_as_a_newcomer(ask: Ask) -> None:
    unknown = {"history": ["no such thing", ""]}
    newcomer, empty, stranger = ask("string-int8", [{}, {"history": []}, unknown])
    assert newcomer == empty == stranger
    assert newcomer["nKnown"] == 0
    assert len(newcomer["items"]) == 10


def test_ids_beyond_the_exact_numbers_of_javascript_stay_exact(ask: Ask) -> None:
    ends = [2**53 + 1, 2**63 - 1, -(2**53) - 1]
    (found,) = ask("tiny-int64", [{"history": ends, "exclude": [], "k": EVERYTHING}])
    assert found["nKnown"] == 3
    assert {*ends, 2**53} <= {item["id"] for item in found["items"]}


@pytest.mark.parametrize(
    ("name", "question", "error"),
    [
        ("int64-int8", {"history": ["12"]}, 'history: .* such as 85116n, not the string "12"'),
        ("int64-int8", {"exclude": [2**63]}, 'exclude: .* not the bigint "9223372036854775808"'),
        ("string-int8", {"history": [12]}, 'history: this file wants texts.* not the bigint "12"'),
        ("string-int8", {"history": ["22423\0"]}, r"history: this file wants texts, without \\0"),
        ("int64-int8", {"timestamps": [1]}, "no input timestamps in this file: history, exclude"),
    ],
)
def test_a_wrong_question_gets_a_clear_error(
    ask: Ask, name: str, question: dict[str, Any], error: str
) -> None:
    ((answer),) = ask(name, [question])
    assert answer["error"].startswith("TypeError: ")
    assert re.search(error, answer["error"])


def test_questions_may_be_asked_at_the_same_time(visit: Visit, shop: Recommender) -> None:
    page = visit(file_of("string-int8"))
    histories = [["85123A"], ["22423", "47566"], []]
    found = page.evaluate(
        """async (histories) => {
            const { load, recommend } = await import(new URL("recommend.js", location).href);
            const model = await load("model.onnx");
            return Promise.all(histories.map((history) => recommend(model, { history })));
        }""",
        histories,
    )
    for answer, history in zip(answers_of(found), histories, strict=True):
        assert answer.item_ids == shop.recommend(history, exclude_seen=True).item_ids


def test_the_page_is_small_and_its_policy_allows_its_own_site_alone() -> None:
    page = (EXAMPLE / "index.html").read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert not re.search(r"<(?:style|script)>|\sstyle=|\son\w+=", page.partition("</title>")[2])
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert found is not None
    assert dict(part.split(" ", 1) for part in found[1].split("; ")) == {
        "default-src": "'none'",
        "script-src": "'self' 'wasm-unsafe-eval'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    own = ("index.html", "page.css", "page.js", "recommend.js")
    assert sum((EXAMPLE / name).stat().st_size for name in own) < 30_000


def test_somebody_new_gets_an_answer_at_once(visit: Visit, shop: Recommender) -> None:
    file = file_of("string-int8")
    page = visit(file)
    expect(page.locator("#status")).to_have_text(
        re.compile(r"10 products for somebody new, found in [\d.]+ ms\.")
    )
    expect_answer(page, shop, [])
    size = f"{file.stat().st_size / 1e6:.1f}"
    expect(page.locator("#facts")).to_have_text(f"model.onnx, {size} MB: 1,000 products.")
    expect(page.locator("#count")).to_have_text("1,000 products")
    traffic = page.locator("#traffic")
    expect(traffic).to_contain_text(re.compile(r"15\.0 MB came from this site"))
    assert page.locator("#trouble").is_hidden()


def test_products_are_taken_and_taken_back_by_a_tap(visit: Visit, shop: Recommender) -> None:
    page = visit(file_of("string-int8"))
    products = page.locator("#products button")
    products.nth(3).click()
    fourth = shop.recommend([], 4).item_ids[3]
    expect_answer(page, shop, [fourth])
    expect(products.nth(3)).to_have_attribute("aria-pressed", "true")
    next_one = shop.recommend([fourth], 2, exclude_seen=True).item_ids[1]
    page.locator("#items button").nth(1).click()
    expect_answer(page, shop, [fourth, next_one])
    products.nth(3).click()
    expect_answer(page, shop, [next_one])
    page.get_by_role("button", name="Take back").click()
    expect_answer(page, shop, [])
    page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("#chosen > li")).to_have_count(3)
    page.get_by_role("button", name="Start again").click()
    expect_answer(page, shop, [])


def test_it_is_used_by_the_keyboard_alone(visit: Visit, shop: Recommender) -> None:
    page = visit(file_of("string-int8"))
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("REGENCY cakestand")
    page.keyboard.press("Enter")
    expect_answer(page, shop, ["22423"])
    page.keyboard.type("bunting")  # what was typed before is selected
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator("#products button").nth(1)
    expect(second).to_be_focused()
    page.keyboard.press("Space")
    expect(second).to_have_attribute("aria-pressed", "true")
    bunting = second.locator(".id").inner_text()
    expect_answer(page, shop, ["22423", bunting])
    page.keyboard.press("Tab")  # each list is one stop
    first = page.locator("#items button").first
    expect(first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    history = ["22423", bunting]
    history.append(shop.recommend(history, 2, exclude_seen=True).item_ids[1])
    expect_answer(page, shop, history)
    expect(page.locator("#items button").nth(1)).to_be_focused()  # the same rank
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.press("Backspace")
    expect_answer(page, shop, history[:2])
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#chosen button").last).to_be_focused()
    page.keyboard.press("Enter")
    expect_answer(page, shop, history[:1])


def test_a_tap_on_a_tag_leaves_only_items_with_it(visit: Visit) -> None:
    file = file_of("tiny-rules")
    shop = Recommender.load(file)
    page = visit(file)
    expect(page.locator("#facets button")).to_have_count(6)
    for tags in (["kind:mug"], ["kind:mug", "kind:a:b"], ["kind:mug", "kind:a:b", "colour:blue"]):
        page.locator(f'#facets button[title="{tags[-1]}"]').click()
        expect(page.locator("#facets [aria-pressed=true]")).to_have_count(len(tags))
        found = shop.recommend([], require_any=tags)
        expect(page.locator("#items > li")).to_have_count(len(found))
        rows = page.locator("#items > li").evaluate_all("rows => rows.map(row => row.dataset.id)")
        assert rows == found.item_ids


def test_a_search_ignores_case_and_accents_and_finds_ids(visit: Visit) -> None:
    page = visit(file_of("tiny-string"))
    for text, found in (("TITLE 'E'", 2), ("00123", 1), ("商品", 1), ("nothing of this", 0)):
        page.get_by_label("Search").fill(text)
        expect(page.locator("#products button")).to_have_count(found)
        expect(page.locator("#count")).to_have_text(f"{found} found" if found else "Nothing found")


def test_it_answers_offline_and_asks_for_nothing_more(visit: Visit, shop: Recommender) -> None:
    page = visit(file_of("string-int8"))
    expect_answer(page, shop, [])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.locator("#items button").first.click()
    expect_answer(page, shop, shop.recommend([], 1).item_ids)
    expect(page.locator("#traffic")).to_contain_text("Requests since then: 0.")
    assert asked == []
    kept = "[localStorage.length, sessionStorage.length, document.cookie, location.hash]"
    assert page.evaluate(kept) == [0, 0, "", ""]


def test_without_a_model_it_says_what_to_do_and_takes_one_from_the_disk(visit: Visit) -> None:
    page = visit(None, console="404")
    expect(page.locator("#trouble")).to_have_text(
        "There is no model.onnx beside this page yet (404). "
        "Copy a model file there, or open one from your disk."
    )
    expect(page.locator("#loading")).to_be_hidden()
    numbers = Recommender.load(file_of("int64-fp32"))
    page.get_by_label("Open a model file").set_input_files(file_of("int64-fp32"))
    expect_answer(page, numbers, [])
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#facts")).to_have_text("int64-fp32.onnx, 0.7 MB: 3,652 products.")
    page.get_by_label("Search").fill(str(2**53 + 1))
    page.keyboard.press("Enter")
    expect_answer(page, numbers, [2**53 + 1])
    assert min(map(int, ids(page))) > 2**53


def test_a_file_that_is_dropped_takes_the_place_of_the_model(visit: Visit, site: Path) -> None:
    page = visit(file_of("string-int8"))
    page.locator("#items button").first.click()
    shutil.copy(file_of("tiny-int64"), site / "dropped.onnx")
    page.evaluate("""async () => {
        const bytes = await (await fetch("../dropped.onnx")).arrayBuffer();
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "dropped.onnx"));
        for (const kind of ["dragover", "drop"]) document.body.dispatchEvent(
            new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
    }""")
    expect_answer(page, Recommender.load(file_of("tiny-int64")), [])
    assert page.evaluate("document.body.className") == ""


def test_what_is_no_model_is_refused_and_the_one_before_stays(
    visit: Visit, shop: Recommender, tmp_path: Path
) -> None:
    page = visit(file_of("string-int8"))
    expect_answer(page, shop, [])
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file_of("string-int8").read_bytes()[:400_000])
    page.get_by_label("Open a model file").set_input_files(cut)
    trouble = page.locator("#trouble")
    expect(trouble).to_have_text(re.compile("cut.onnx cannot be opened as a model: .*protobuf"))
    foreign = tmp_path / "foreign.onnx"
    value = functools.partial(
        onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT, shape=[1]
    )
    node = onnx.helper.make_node("Abs", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "foreign", [value("x")], [value("y")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)],
                                     ir_version=10), foreign)  # fmt: skip
    page.get_by_label("Open a model file").set_input_files(foreign)
    expect(trouble).to_have_text("foreign.onnx is a model, but not one of attnrec: it takes x.")
    page.locator("#items button").first.click()
    expect_answer(page, shop, shop.recommend([], 1).item_ids)


def test_a_broken_file_beside_the_page_is_named(visit: Visit, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x0a not a model")
    page = visit(broken)
    expect(page.locator("#trouble")).to_contain_text("model.onnx cannot be opened as a model: ")
    expect(page.locator("#main")).to_be_hidden()


def test_it_fits_a_phone(visit: Visit) -> None:
    page = visit(file_of("string-int8"), width=360, height=740)
    page.locator("#items button").first.click()
    expect(page.locator("#chosen > li")).to_have_count(1)
    for width in (360, 320):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for button in page.locator("button:visible, .button").all():
            box = button.bounding_box()
            assert box is not None and min(box["width"], box["height"]) >= 40


def test_markup_in_titles_stays_text(visit: Visit, tmp_path: Path) -> None:
    content = file_of("tiny-string").read_bytes()
    title = r"Title of '👩\u200d🍳' ☕".encode()
    assert content.count(title) > 0 and len(title) == len(HOSTILE)
    path = tmp_path / "hostile.onnx"
    changed = content[:-SEAL_LENGTH].replace(title, HOSTILE.encode())
    path.write_bytes(changed + hashlib.sha256(changed).hexdigest().encode())
    page = visit(path)
    expect(page.locator("#items .name").filter(has_text=HOSTILE)).to_have_count(1)
    page.get_by_label("Search").fill("<img")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen > li")).to_have_text([HOSTILE])
    assert page.locator("img").count() == 0
