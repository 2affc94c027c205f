"""docs/settings.md is made from group_data/all.py."""

import dataclasses

import pytest

from deploys.settings import Settings
from tools.settings_page import PAGE, SOURCE, page

EXAMPLE = '''\
"""Settings."""

# --- Names ------------------------------------------------------------------

# The prefix
# of everything.
project = "x"

# Where from:
#   "a"  the one
#   "b"  the other
mode = "a"
mode_file = ""
# Not documented by the block above.
users: list[str] = []
'''


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(SOURCE.read_text()), "run `make docs`"


@pytest.mark.parametrize("setting", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_has_an_entry(setting: str) -> None:
    assert f"`{setting}`" in PAGE.read_text()


def test_comments_become_prose_and_their_lists_blocks() -> None:
    text = page(EXAMPLE)
    assert "## Names" in text
    assert '### `project`\n\nThe prefix\nof everything.\n\n```python\nproject = "x"\n```' in text
    assert '### `mode`, `mode_file`\n\nWhere from:\n\n```text\n"a"  the one\n"b"  the other\n```' in text
    assert "### `users`\n\nNot documented by the block above.\n\n```python\nusers = []\n```" in text
