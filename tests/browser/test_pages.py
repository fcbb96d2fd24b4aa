"""The pages as people see them: in a real Chromium, against the whole system."""

import json
import time

from tests.browser.conftest import KEY

COLUMNS = ("waiting", "talking", "answered", "abandoned", "timedOut", "leftByKey")
RUN1 = {"sales": (0, 0, 45, 6, 0, 2), "support-phone": (1, 0, 38, 7, 0, 0), "vip": (0, 0, 18, 0, 0, 0)}
AGENTS = {
    "Alice Wong", "Bob O'Neil", "Dave", "Never Answers", "Paused Pete", "Rejector", "SIP Nine", "SIP Ten", "何嘉欣", "新同事 林", "李 小明", "陳大文",
}  # fmt: skip
HOSTILE = """<img src=x onerror="document.title='broken into'"> & 'friends'"""


def figures_of(page):
    read = """(columns) => [...document.querySelectorAll('#queues tbody tr[data-key]')].map((row) =>
        [row.dataset.key, columns.map((name) => Number(row.querySelector(`[data-name=${name}] span`).textContent))])"""
    return {queue: tuple(figures) for queue, figures in page.evaluate(read, COLUMNS)}


def until(page, read, wanted, seconds=15):
    """Like the page's own wait_for_function, which its content policy forbids."""
    give_up_at = time.monotonic() + seconds
    while (seen := read()) != wanted:
        assert time.monotonic() < give_up_at, f"{seen} instead of {wanted}"
        page.wait_for_timeout(50)


def wait_for_figures(page):
    until(page, lambda: figures_of(page), RUN1)


def names_of(page, table):
    return {name.strip() for name in page.locator(f"#{table} tbody th").all_inner_texts()}


def wait_for_link(page, state, timeout=15_000):
    page.wait_for_selector(f"body[data-link={state}]", timeout=timeout)


def test_sample_fills_the_wallboard_which_speaks_two_languages_and_survives_a_restart(server, visit):
    server.start("--sample", "--speed", "40")
    page = visit(server.address)
    page.wait_for_selector("#agents tbody tr[data-state=busy], #agents tbody tr[data-state=offered]")
    wait_for_figures(page)
    assert names_of(page, "queues") == set(RUN1)
    assert names_of(page, "agents") == AGENTS
    assert page.locator("#agents tr[data-key='新同事 林'] [data-name=state]").inner_text().startswith("Offline")
    assert page.locator("#total-waiting").inner_text() == "1"
    assert page.locator("#link").inner_text() == "Live"

    page.get_by_role("button", name="中文").click()
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    assert page.locator("#queues thead th").first.inner_text() == "队列"
    assert page.locator("#link").inner_text() == "实时"
    page.reload()
    wait_for_figures(page)
    assert page.get_by_role("table", name="坐席").is_visible(), "the choice of language is remembered"
    page.get_by_role("button", name="English").click()
    assert page.get_by_role("columnheader", name="Service level").is_visible()
    server.ask("PUT", "/v1/agents/9999", json.dumps({"name": HOSTILE}).encode())
    until(page, lambda: names_of(page, "agents"), AGENTS | {HOSTILE})
    assert page.title() == "Answerline live"
    assert page.complaints == []

    server.stop()
    wait_for_link(page, "lost")
    assert page.locator("#link").inner_text().startswith("Reconnecting")
    server.start()
    wait_for_link(page, "open", timeout=25_000)
    wait_for_figures(page)


def test_chinese_browser_is_greeted_in_chinese(server, visit):
    server.start()
    page = visit(server.address, locale="zh-HK")
    wait_for_link(page, "open")
    assert page.title() == "Answerline 实时看板"
    assert page.locator("#queues tbody").inner_text().strip() == "暂无队列"
    assert page.complaints == []


def test_wallboard_that_is_not_public_asks_for_a_key_and_keeps_it_for_the_session(server, visit):
    server.start(ANSWERLINE_PUBLIC_WATCHING="no")
    server.ask("PUT", "/v1/queues/hotline", b'{"mode": "observed"}')
    page = visit(server.address)
    wait_for_link(page, "locked")
    page.get_by_label("API key").fill("a wrong one")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("This key is not known here.").wait_for()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Show").click()
    wait_for_link(page, "open")
    assert names_of(page, "queues") == {"hotline"}
    page.reload()
    wait_for_link(page, "open")
    assert not page.locator("#key-form").is_visible()
    assert all("401" in complaint for complaint in page.complaints)


def test_api_page_describes_every_door(server, visit):
    server.start()
    page = visit(f"{server.address}/docs")
    page.wait_for_selector("details.door")
    doors = json.loads(server.ask("GET", "/openapi.json"))["paths"]
    every = sum(len(methods) for methods in doors.values())
    assert page.locator("details.door").count() == every
    page.locator("#put_queue > summary").click()
    page.locator("#put_queue .curl").wait_for()
    shown = page.locator("#put_queue").inner_text()
    assert "Key with the role supervisor." in shown
    assert "service_level_seconds" in shown
    assert f"curl -X PUT '{server.address}/v1/queues/sales'" in shown
    page.get_by_role("button", name="中文").click()
    assert page.title() == "Answerline 接口文档"
    assert "需要具有以下角色之一的密钥：supervisor。" in page.locator("#put_queue").inner_text(), "what was open stays open"
    assert page.complaints == []


def test_an_endpoint_is_found_on_the_api_page_and_tried_with_a_key(server, visit):
    server.start()
    page = visit(f"{server.address}/docs")
    page.wait_for_selector("details.door")
    page.get_by_label("Find").fill("offer_seconds put")
    until(page, lambda: page.locator("details.door:visible").count(), 1)
    assert page.locator("#found").inner_text().startswith("1 of ")
    door = page.locator("#put_queue")
    door.locator("> summary").click()
    door.get_by_label("name").fill("hot line")
    assert f"curl -X PUT '{server.address}/v1/queues/hot%20line'" in door.locator(".curl").inner_text()
    door.get_by_label("Body").fill('{"mode": "observed", "offer_seconds": 12}')
    assert '"offer_seconds": 12' in door.locator(".curl").inner_text()
    send = door.get_by_role("button", name="Send")

    send.click()
    door.locator("[data-status='401']").wait_for()
    assert "answerline key create" in door.locator(".content").inner_text()
    page.get_by_label("Your key").fill(KEY)
    send.click()
    door.locator("[data-status='200']").wait_for()
    assert json.loads(door.locator(".content").inner_text())["offer_seconds"] == 12
    door.get_by_text("Headers").click()
    assert "content-type: application/json" in door.locator(".headers").inner_text()
    assert KEY not in page.locator("main").inner_text()
    assert json.loads(server.ask("GET", "/v1/queues/hot%20line"))["mode"] == "observed"

    page.get_by_role("button", name="中文").click()
    assert door.get_by_label("请求体").input_value() == '{"mode": "observed", "offer_seconds": 12}', "what was filled in stays"
    door.get_by_label("请求体").fill("{")
    door.get_by_role("button", name="发送").click()
    door.locator("[data-status='400']").wait_for()
    assert all("401" in complaint or "400" in complaint for complaint in page.complaints), "and no content policy was broken"
