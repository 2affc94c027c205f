"""Dockerfiles, YAML, Markdown links, and what no file of the project may contain."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.plan.process import placed
from tests.static.tree import ROOT, check, files, named, tool

YAML_RULES = """
extends: default
rules:
  braces: {max-spaces-inside: 1}
  brackets: {max-spaces-inside: 1}
  comments: {min-spaces-from-content: 1}
  document-start: disable
  line-length: {max: 140}
  truthy: {check-keys: false}
"""


@pytest.mark.parametrize("path", named("Dockerfile", "Dockerfile.*", "*.Dockerfile"))
def test_hadolint(path: str) -> None:
    check([tool("hadolint"), path])


@pytest.mark.parametrize("path", named("*.yml", "*.yaml"))
def test_yamllint(path: str) -> None:
    check([tool("yamllint"), "--strict", "--format", "parsable", "--config-data", YAML_RULES, path])


@pytest.mark.xdist_group("plan")
def test_yamllint_of_rendered_files(tmp_path: Path) -> None:
    for case in ("minimal", "default", "maximal"):
        for path, text in placed(case).items():
            if path.endswith((".yml", ".yaml")):
                (tmp_path / f"{case}{path.replace('/', '-')}").write_text(text)
    assert len(list(tmp_path.iterdir())) >= 9
    check([tool("yamllint"), "--strict", "--format", "parsable", "--config-data", YAML_RULES, str(tmp_path)])


# --- Markdown --------------------------------------------------------------------------------------------------------

MARKDOWN = named("*.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} +(.*?)\s*#*$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {
        slug if slugs[:at].count(slug) == 0 else f"{slug}-{slugs[:at].count(slug)}" for at, slug in enumerate(slugs)
    }


@pytest.mark.parametrize("path", MARKDOWN)
def test_links_resolve(path: str) -> None:
    broken = []
    for match in LINK.finditer(CODE.sub("", (ROOT / path).read_text())):
        link = match[1] or match[2]
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (ROOT / path).parent / unquote(parts.path) if parts.path else ROOT / path
        if not target.exists():
            broken.append(f"{path}: {link}: there is no such file")
        elif parts.fragment and target.suffix == ".md" and parts.fragment not in anchors(target):
            broken.append(f"{path}: {link}: the page has no such heading")
    assert broken == []


# --- Every file ------------------------------------------------------------------------------------------------------


VENDORED = "src/console/assets/vendor/"  # as their makers publish them; tests/unit/tools/test_vendor.py compares


def texts() -> dict[str, str]:
    """The text files of the project."""
    found = {}
    for path in files():
        if path.startswith(VENDORED):
            continue
        try:
            found[path] = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
    return found


TEXTS = texts()


# `test_x.py`, with or without its directory; `test_x.py::test_y` or `test_x.py: test_y`; `test_y`; `tests/host/`.
SPAN = re.compile(r"`([^`\n]+)`")
NAMED_TEST = re.compile(r"(?<![\w/])((?:[\w-]+/)*test_\w+\.py)(?:(?:::|: )(test_\w+))?|(?<![\w/.:])(test_\w+)(?![\w.])")
TEST_DIRECTORY = re.compile(r"(?<![\w/])tests/[\w/]*(?![\w.])")


def test_names_of_tests_in_documents_are_those_of_tests() -> None:
    """Who looks for what proves a claim finds it."""
    modules = {path: set(re.findall(r"^ *def (test_\w+)", TEXTS[path], re.MULTILINE)) for path in named("test_*.py")}
    known = set().union(*modules.values())
    broken, seen = [], 0
    for path in MARKDOWN:
        for span in SPAN.findall(TEXTS[path]):
            for file, inside, alone in NAMED_TEST.findall(span):
                seen += 1
                found = [module for module in modules if f"/{module}".endswith(f"/{file}")] if file else []
                if file and not found:
                    broken.append(f"{path}: {file}: there is no such file")
                if file and inside and not any(inside in modules[module] for module in found):
                    broken.append(f"{path}: {file}: has no test {inside}")
                if alone and alone not in known:
                    broken.append(f"{path}: {alone}: there is no such test")
            broken += [
                f"{path}: {folder}: there is no such directory"
                for folder in TEST_DIRECTORY.findall(span)
                if not (ROOT / folder).is_dir()
            ]
    assert seen > 50 and broken == []


def lines_with(pattern: str, paths: Iterable[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:160]!r}"
        for path in paths
        for number, line in enumerate(TEXTS[path].splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_whitespace() -> None:
    assert lines_with(r"[ \t\r]+$", TEXTS) == [], "whitespace at the end of a line"
    assert [path for path, text in TEXTS.items() if text and not text.endswith("\n")] == [], "the last line has no end"
    assert [path for path, text in TEXTS.items() if text.endswith("\n\n")] == [], "an empty line at the end"


def registries() -> set[str]:
    """Where this machine gets packages from, other than the public registries: hosts and directories."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    variables = [value for key, value in os.environ.items() if re.search(r"INDEX|REGISTRY|FIND_LINKS", key.upper())]
    public = {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org"}
    found = set()
    for word in re.split(r"[\s'\"=]+", " ".join([asked.stdout, *variables])):
        url = urlsplit(word)
        if url.scheme in ("http", "https") and url.hostname and url.hostname not in public | {"localhost"}:
            found.add(url.hostname)
        elif url.scheme == "file" or word.startswith("/opt/"):
            found.add(url.path.removesuffix("/simple"))
    return found


# Spelt in two parts, since this file is searched, too.
MACHINE = rf"(?<![\w.~*/-])/{'work'}/|(?<![\w.~*-]){re.escape(str(ROOT))}/" + "".join(
    f"|{re.escape(place)}" for place in sorted(registries())
)
INDEX = r"^\s*--(index-url|extra-index-url|find-links|trusted-host)\b|^\s*registry\s*="


def test_nothing_of_this_machine() -> None:
    """Neither its directories nor the package registries that it uses: the project must work elsewhere."""
    assert lines_with(MACHINE, TEXTS) == []
    locks = [
        path for path in TEXTS if path.startswith("requirements/") or path.endswith((".npmrc", "requirements.txt"))
    ]
    assert locks and lines_with(INDEX, locks) == []
