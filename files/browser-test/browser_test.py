"""What `docker-sandbox browser-test ID` does in the browser. Copy this file, edit `check`, and run your copy:

    docker-sandbox browser-test ID --script my_test.py

`page` is a page of Playwright for Python, https://playwright.dev/python/docs/api/class-page. It shows the URL of the
sandbox already, so relative addresses work: page.goto("/about"). The test has failed when `check` raises: a plain
`assert`, an `expect` of Playwright that does not come true within 5 seconds, a click on what does not appear within 30.
It has failed, too, when the page has an uncaught exception, an error in its console, or a request that fails.

The file stands alone: it cannot import others of yours. Files that it writes to its current directory are downloaded.
Whatever happens, `screenshot.png` shows the page as `check` left it.
"""

from playwright.sync_api import Page

# Problems that are meant to happen, such as the answer to an input that is refused: regular expressions, each searched
# in the lines of the report. What one of them matches is listed and does not fail the test.
# Example: EXPECTED = [r"request: 422 POST .*/api/notes"]
EXPECTED: list[str] = []


def check(page: Page) -> None:
    # Something is there. For a page of yours, ask for what a person would look for first.
    assert page.title() or page.inner_text("body").strip(), "the page has neither a title nor a text"

    # A form, for example:
    #   page.get_by_label("New note").fill("buy milk")
    #   page.get_by_role("button", name="Add").click()
    #   expect(page.get_by_role("listitem")).to_have_text(["buy milk"])    # from playwright.sync_api import expect

    # How it looks on a phone: a picture to look at.
    desktop = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path="phone.png", full_page=True)
    if desktop is not None:
        page.set_viewport_size(desktop)
