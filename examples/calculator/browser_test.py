"""The calculator in a browser: docker-sandbox browser-test ID --script examples/calculator/browser_test.py

It clears the history of the sandbox that it tests.
"""

from playwright.sync_api import Page, expect

EXPECTED = [r"^request: 422 POST .*/api/calculate$"]  # the division by zero


def check(page: Page) -> None:
    expect(page).to_have_title("Calculator")
    history, clear = page.locator("#history li"), page.get_by_role("button", name="Clear")
    expect(page.locator("#empty").or_(history.first)).to_be_visible()  # the history has been read
    if clear.is_enabled():
        clear.click()
    expect(history).to_have_count(0)

    calculate(page, "5", "3")
    expect(page.locator("#result")).to_have_text("8")
    calculate(page, "1", "0", "divided by")
    expect(page.locator("#error")).not_to_be_empty()
    page.screenshot(path="calculated.png")

    page.reload()  # what it remembers comes from the server
    expect(history).to_have_text(["5 + 3 =8"])
    clear.click()
    expect(page.locator("#empty")).to_be_visible()
    expect(history).to_have_count(0)
    expect(clear).to_be_disabled()


def calculate(page: Page, a: str, b: str, operation: str = "plus") -> None:
    page.get_by_label("First number").fill(a)
    page.get_by_label("Second number").fill(b)
    page.get_by_role("radio", name=operation).check()
    page.get_by_role("button", name="Calculate").click()
