"""The page for people: real servers, and a real Chromium that shows what they answer."""

import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import SEAL_LENGTH

HISTORY = ["sku-11", "sku-9", "sku-3"]
TOKEN = "a-token-of-thirty-two-characters"
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 15_000  # milliseconds: other tests may have the machine
HOSTILE = "<img src=x onerror=alert(12)>"

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    """The Chromium that ATTNREC_CHROMIUM names, or one that is installed."""
    named = os.environ.get("ATTNREC_CHROMIUM")
    path = named or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in ATTNREC_CHROMIUM")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES.split())
        yield browser.new_context()
        browser.close()


@pytest.fixture
def visit(context: BrowserContext) -> Iterator[Open]:
    """Open the page of a server: visit(server, "#h=sku-11").

    In the end it has sent no request elsewhere, and the console holds only what a test allows.
    """
    pages, allowed, faults = [], [], []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(message.text)

    def call(server, link="", width=1200, height=900, console="") -> Page:
        origin = f"http://127.0.0.1:{server.port}/"
        allowed.append(console or "(?!)")
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.on("console", heard)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda sent: sent.url.startswith((origin, "data:")) or
                faults.append(sent.url))  # fmt: skip
        page.goto(origin + link)
        return page

    yield call
    for page in pages:
        page.close()
    assert [fault for fault in faults if not any(re.search(a, fault) for a in allowed)] == []


def link(history: list[str] | list[int]) -> str:
    return "#h=" + ",".join(map(str, history))


def ids(page: Page, where: str) -> list[str]:
    """The ids that a list shows: below the title, or alone."""
    names = page.locator(f"{where} > li > .name, {where} > li > .item > .name")
    return names.locator("> :last-child").all_text_contents()


def signed(contributions: list[float]) -> list[str]:
    """Contributions as the page writes them."""
    texts = [f"{value:+.3f}" if value else "0.000" for value in contributions]
    return [text.replace("-", "\N{MINUS SIGN}") for text in texts]


def expect_answer(page: Page, recommender: Recommender, history, k: int = 10) -> None:
    """The page shows this history and what is recommended after it, with scores."""
    found = recommender.recommend(history, k)
    scores = [f"{score:.3f}" for score in found.scores]
    expect(page.locator("#items > li > .item > .number")).to_have_text(scores)
    assert ids(page, "#items") == list(map(str, found.item_ids))
    assert ids(page, "#history") == list(map(str, history))


@pytest.fixture(scope="module")
def numbers_server(start):
    return start("tiny-int64")


@pytest.fixture(scope="module")
def recommender(data: Path) -> Recommender:
    return Recommender.load(data / "tiny-string.onnx")


def test_the_page_is_small_and_one_file(strings) -> None:
    reply = strings.get("/")
    assert reply.status == 200
    assert len(reply.body) < 60_000
    assert not re.search(rb"""(?:src|href)=["']?(?:https?:)?//""", reply.body)
    tag = reply.headers["etag"]
    again = strings.get("/", {"If-None-Match": tag})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)


def test_its_policy_allows_its_own_script_and_style_alone(strings) -> None:
    headers = strings.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy[kind])
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"


def test_an_empty_history_gets_an_answer_at_once(visit, server, recommender) -> None:
    page = visit(server)
    expect(page.locator("#status")).to_contain_text("10 recommendations in")
    expect(page.locator("#status")).to_contain_text(re.compile(r"server [\d.]+ ms"))
    expect_answer(page, recommender, [])
    info = recommender.info
    facts = [info.model, f"{info.n_items} items", info.profile, f"version {info.sha256[:12]}"]
    expect(page.locator("#facts li")).to_have_text(facts)
    expect(page.get_by_role("button", name="Why")).to_have_count(0)


def test_a_history_grows_by_keyboard_alone(visit, server, recommender) -> None:
    page = visit(server)
    expect(page.locator("#items > li")).to_have_count(10)
    page.keyboard.press("Tab")  # the link
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "search":
            break
        page.keyboard.press("Tab")
    box = page.get_by_role("combobox", name="Search the catalogue")
    expect(box).to_be_focused()
    page.keyboard.type("sku-11")
    expect(box).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("listbox").get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#history > li")).to_have_count(1)
    expect_answer(page, recommender, ["sku-11"])
    expect(box).to_be_focused()
    # At once, before anything was suggested; then the second of several by arrow.
    page.keyboard.type("sku 9")
    page.keyboard.press("Enter")
    expect(page.locator("#history > li")).to_have_count(2)
    # All at once: letter by letter, a slow machine shows what "s" finds before what "sku" does.
    page.keyboard.insert_text("sku")
    second = page.get_by_role("listbox").get_by_role("option").nth(1)
    expect(second).to_be_visible()
    wanted = second.locator(".name > :last-child").inner_text()
    page.keyboard.press("ArrowDown")
    expect(second).to_have_attribute("aria-selected", "true")
    expect(box).to_have_attribute("aria-activedescendant", second.get_attribute("id") or "?")
    page.keyboard.press("Enter")
    expect(page.locator("#history > li")).to_have_count(3)
    expect_answer(page, recommender, ["sku-11", "sku-9", wanted])
    page.keyboard.type("no such thing")
    expect(page.locator("#found-count")).to_have_text("Nothing found among 32 items.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()


def test_why_names_the_contributions_of_explain(visit, server, recommender) -> None:
    page = visit(server, link(HISTORY))
    expect_answer(page, recommender, HISTORY)
    rows = page.locator("#items > li")
    expect(page.locator(".panel")).to_have_count(1)  # the first comes with its reasons
    page.get_by_role("button", name="Why").nth(1).click()
    for place, item in enumerate(recommender.recommend(HISTORY, 2).item_ids):
        reasons = recommender.explain(HISTORY, item)
        panel = rows.nth(place).locator(".panel")
        expect(panel.locator(".number")).to_have_text(signed(reasons.contributions))
        names = panel.locator(".name > :first-child")
        expect(names).to_have_text(reasons.titles or [])
    # Titles of events, which a link does not hold, have come with the reasons.
    expect(page.locator("#history .name > :first-child")).to_have_text(reasons.titles or [])


def test_similar_items_can_be_taken(visit, server, recommender) -> None:
    page = visit(server, link(HISTORY))
    page.get_by_role("button", name="Similar to").nth(2).click()
    item = recommender.recommend(HISTORY, 3).item_ids[2]
    found = recommender.similar(item, 5)
    panel = page.locator("#items > li").nth(2).locator(".panel")
    expect(panel.locator(".number")).to_have_text([f"{score:.3f}" for score in found.scores])
    panel.get_by_role("button", name="I took it").first.click()
    expect(page.locator("#history > li")).to_have_count(4)
    expect_answer(page, recommender, [*HISTORY, found.item_ids[0]])


def test_events_are_moved_and_removed_and_the_link_follows(visit, server, recommender) -> None:
    page = visit(server, link(HISTORY))
    a, b, c = HISTORY
    expect_answer(page, recommender, [a, b, c])
    page.locator("#history .remove").last.focus()
    page.keyboard.press("Alt+ArrowUp")
    expect_answer(page, recommender, [a, c, b])
    page.keyboard.press("Alt+ArrowUp")  # the focus went with the event
    expect_answer(page, recommender, [c, a, b])
    page.locator("#history > li").first.locator(".move").last.click()
    expect_answer(page, recommender, [a, c, b])
    assert page.url.endswith(link([a, c, b]))
    page.keyboard.press("Delete")
    expect_answer(page, recommender, [a, b])
    page.get_by_role("button", name="Remove").first.click()
    expect_answer(page, recommender, [b])
    page.get_by_role("button", name="I took it").first.click()
    expect(page.locator("#history > li")).to_have_count(2)
    page.get_by_role("button", name="Clear").click()
    expect_answer(page, recommender, [])
    assert "#" not in page.url
    page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("#history > li")).to_have_count(3)


def test_the_keyboard_focus_stays_where_it_is_when_titles_arrive(visit, server) -> None:
    page = visit(server)
    held = []
    page.route("**/v1/explain", lambda route: held.append(route))
    with page.expect_request("**/v1/explain"):
        page.evaluate(f"location.hash = '{link(HISTORY)}'")
    expect(page.locator("#history .name > :first-child").first).to_have_text(HISTORY[0])
    page.locator("#history .remove").last.focus()
    held[0].continue_()
    expect(page.locator("#history .name > :first-child").first).not_to_have_text(HISTORY[0])
    expect(page.locator("#history .remove").last).to_be_focused()


def test_how_many_and_whether_again(visit, server, recommender) -> None:
    page = visit(server, link(HISTORY))
    expect(page.get_by_label("Leave out what is in the history")).to_be_checked()
    page.get_by_label("Show").select_option("20")
    expect(page.locator("#items > li")).to_have_count(20)
    expect_answer(page, recommender, HISTORY, 20)
    page.get_by_label("Leave out what is in the history").uncheck()
    again = recommender.recommend(HISTORY, 20, exclude_seen=False)
    scores = [f"{score:.3f}" for score in again.scores]
    expect(page.locator("#items > li > .item > .number")).to_have_text(scores)


def test_it_fits_a_phone(visit, server) -> None:
    page = visit(server, link(HISTORY), width=360, height=740)
    expect(page.locator(".reason")).to_have_count(3)
    for width in (360, 320):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for button in page.locator("button:visible").all():
            box = button.bounding_box()
            assert box is not None and min(box["width"], box["height"]) >= 40


def test_markup_in_titles_stays_text(visit, start, data, tmp_path) -> None:
    content = (data / "tiny-string.onnx").read_bytes()
    title = r"Title of '👩\u200d🍳' ☕".encode()
    assert content.count(title) > 0 and len(title) == len(HOSTILE)
    path = tmp_path / "hostile.onnx"
    changed = content[:-SEAL_LENGTH].replace(title, HOSTILE.encode())
    path.write_bytes(changed + hashlib.sha256(changed).hexdigest().encode())
    page = visit(start(path))
    page.locator("#search").fill("<img")
    page.get_by_role("listbox").get_by_role("option", name=HOSTILE).click()
    page.get_by_label("Leave out what is in the history").uncheck()
    page.get_by_label("Show").select_option("20")
    expect(page.locator("#history .name > :first-child")).to_have_text([HOSTILE])
    expect(page.locator(".reason .name > :first-child")).to_have_text([HOSTILE])
    assert page.locator("img").count() == 0


def test_whole_numbers_are_ids_too(visit, numbers_server, data) -> None:
    recommender = Recommender.load(data / "tiny-int64.onnx")
    page = visit(numbers_server)
    page.locator("#search").fill("120")
    page.keyboard.press("Enter")
    expect(page.locator("#history > li")).to_have_count(1)
    expect_answer(page, recommender, [120])
    expect(page.locator(".reason")).to_have_count(1)


def test_numbers_that_javascript_cannot_hold_are_not_changed(visit, numbers_server, data) -> None:
    recommender = Recommender.load(data / "tiny-int64.onnx")
    history = [2**53 + 1, -(2**53) - 1, 2**63 - 1]
    page = visit(numbers_server, link(history[:1]))
    for item in history[1:]:
        page.locator("#search").fill(str(item))
        page.keyboard.press("Enter")
        expect(page.locator("#history > li")).to_have_count(history.index(item) + 1)
    page.get_by_label("Show").select_option("20")
    expect(page.locator("#items > li")).to_have_count(20)
    expect_answer(page, recommender, history, 20)
    assert {str(2**53), str(-(2**63))} & set(ids(page, "#items"))
    reasons = recommender.explain(history, int(ids(page, "#items")[0]))
    expect(page.locator(".reason .number")).to_have_text(signed(reasons.contributions))


def test_side_inputs_can_be_given_where_the_file_declares_them(visit, start, data) -> None:
    recommender = Recommender.load(data / "tiny-users.onnx")
    page = visit(start("tiny-users"))
    expect_answer(page, recommender, [])
    page.get_by_label("User id").fill("3")
    page.get_by_label("Tags of the user").fill("gold")
    page.keyboard.press("Tab")
    found = recommender.recommend([], 10, user=3, user_tags=["gold"])
    scores = [f"{score:.3f}" for score in found.scores]
    expect(page.locator("#items > li > .item > .number")).to_have_text(scores)
    page.get_by_label("User id").fill("three")
    page.keyboard.press("Tab")
    expect(page.locator("#trouble")).to_have_text("User ids are whole numbers here.")


def test_a_token_is_requested_and_kept_in_memory_alone(
    visit, start, recommender, tmp_path
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    page = visit(start("tiny-string", "--token-file", path), link(HISTORY), console="401")
    field = page.get_by_label("This server needs a token")
    field.fill("not the token")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_have_text("The server does not accept this token.")
    field.fill(TOKEN)
    page.keyboard.press("Enter")
    expect(field).to_be_hidden()
    expect_answer(page, recommender, HISTORY)
    expect(page.locator("#trouble")).to_be_empty()
    kept = "[localStorage.length, sessionStorage.length, document.cookie]"
    assert page.evaluate(kept) == [0, 0, ""]
    assert TOKEN not in page.url + page.content()
    page.reload()
    expect(field).to_be_visible()


def test_another_model_after_a_reload_is_noticed(visit, start, data, tmp_path) -> None:
    path, coming = tmp_path / "model.onnx", tmp_path / "next"
    shutil.copy(data / "tiny-string.onnx", path)
    server = start(path, "--allow-change")
    page = visit(server, link(HISTORY), console="422")
    expect(page.locator(".reason")).to_have_count(3)
    # The ids of the last one are numbers: the history means nothing to it.
    for name, k, history in (("tiny-int8", 5, HISTORY), ("tiny-popularity", 20, [])):
        shutil.copy(data / f"{name}.onnx", coming)
        coming.replace(path)
        server.process.send_signal(signal.SIGHUP)
        recommender = Recommender.load(path)
        version = (recommender.info.sha256 or "")[:12]
        deadline = time.monotonic() + 20
        while server.get("/readyz").json["model_version"] != version:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        page.get_by_label("Show").select_option(str(k))
        expect(page.locator("#facts")).to_contain_text(version)
        expect(page.locator("#status")).to_contain_text("The server has loaded another model.")
        expect_answer(page, recommender, history, k)


def test_a_request_to_a_busy_server_is_repeated_and_refusals_are_shown(
    visit, server, recommender
) -> None:
    page = visit(server, console="503|422")
    expect(page.locator("#items > li")).to_have_count(10)
    replies = iter([
        {"status": 503, "headers": {"Retry-After": "1"}},
        {"status": 422, "json": {"detail": "history: too long"}},
    ])  # fmt: skip

    def answer(route) -> None:
        reply = next(replies, None)
        if reply is None:
            route.continue_()
        else:
            route.fulfill(**reply)

    page.route("**/v1/recommend", answer)
    page.get_by_label("Show").select_option("5")
    expect(page.locator("#trouble")).to_have_text("The server is busy; trying again.")
    expect(page.locator("#trouble")).to_have_text("history: too long")
    page.get_by_label("Show").select_option("20")
    expect_answer(page, recommender, [], 20)
    expect(page.locator("#trouble")).to_be_empty()


def test_an_offline_device_gets_the_answer_later(visit, server, recommender) -> None:
    page = visit(server, console="ERR_INTERNET_DISCONNECTED")
    expect(page.locator("#items > li")).to_have_count(10)
    page.context.set_offline(True)
    page.get_by_role("button", name="I took it").first.click()
    expect(page.locator("#trouble")).to_have_text("This device is offline; trying again.")
    page.context.set_offline(False)
    expect(page.locator("#trouble")).to_be_empty()
    expect_answer(page, recommender, recommender.recommend([], 1).item_ids)


def test_what_may_be_shown_is_chosen_by_tag_bound_and_slider(visit, start, data) -> None:
    page = visit(start("tiny-rules"), link(["sku-1"]))
    shop = Recommender.load(data / "tiny-rules.onnx")
    page.get_by_text("What may be shown").click()
    page.get_by_label("kind").select_option("kind:mug")
    page.get_by_label("price to").fill("4.5")
    page.get_by_label("price to").press("Enter")
    found = shop.recommend(["sku-1"], require_all=["kind:mug"], at_most={"price": 4.5})
    expect(page.locator("#status")).to_contain_text(f"{found.n_allowed} items may be shown")
    expect(page.locator("#items > li")).to_have_count(len(found))
    assert ids(page, "#items") == found.item_ids
    page.get_by_label("price to").fill("")
    page.get_by_label("kind").select_option("any")
    page.get_by_label("Diversity").fill("0.5")
    varied = shop.recommend(["sku-1"], diversity=0.5)
    expect(page.locator("#diversity-value")).to_have_text("0.5")
    expect(page.locator("#items .number").first).to_have_text(f"{varied.scores[0]:.3f}")
    expect(page.locator("#status")).to_contain_text("31 items may be shown")
    assert ids(page, "#items") == varied.item_ids
