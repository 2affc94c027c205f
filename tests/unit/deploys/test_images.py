"""An image's tag is the hash of what goes into it: the same for the same content, another after any change."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploys import images
from deploys.images import Tags, archive, build_command, context, digest
from deploys.loading import load

CONTENT = {
    "files/images/sandbox/Dockerfile": "FROM base",
    "files/images/sandbox/ca/README": "",
    "files/images/playwright/Dockerfile": "FROM sandbox",
    "files/images/code-interpreter/Dockerfile": "FROM sandbox",
    "files/images/traefik/Dockerfile": "FROM scratch",
    "src/interpreter/app.py": "print()",
    "requirements/interpreter.txt": "pyzmq==27.3.0",
    "src/envd/server.py": "print()",
    "requirements/envd.txt": "h11==0.16",
    "templates/usr/local/lib/project-sandbox/bootstrap-base.j2": "mmdebstrap",
}
CA = "-----BEGIN CERTIFICATE-----\nb2ZmaWNl\n-----END CERTIFICATE-----\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project in place of ours."""
    folder = tmp_path / "project"
    for path, text in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    monkeypatch.setattr(images, "ROOT", folder)
    return folder


@pytest.fixture
def tags(data: dict[str, Any], root: Path) -> Callable[..., dict[str, str]]:
    """The tags of all images with some settings changed, by what they are; without the templates that share one."""
    data["templates"] = {name: given for name, given in data["templates"].items() if "like" not in given}

    def compute(**changed: Any) -> dict[str, str]:
        settings = load({**data, **changed})
        found = Tags(settings)
        templates = {name: found.template(template) for name, template in settings.templates.items()}
        return {"debian": found.base, "traefik": found.traefik, **templates}

    return compute


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after.get(name)}


def test_names_and_shape(tags: Callable[..., dict[str, str]]) -> None:
    found = {name: tag.rpartition(":")[::2] for name, tag in tags().items()}
    assert {name: image for name, (image, _) in found.items()} == {
        "debian": "flourisha-base",
        "traefik": "flourisha-traefik",
        "base": "flourisha-sandbox",
        "playwright": "flourisha-playwright",
    }
    for _, tag in found.values():
        assert len(tag.rpartition("-")[2]) == 12
        int(tag.rpartition("-")[2], 16)


def test_no_change_from_times_order_and_caches(root: Path, tags: Callable[..., dict[str, str]]) -> None:
    before = tags()
    for path in sorted(CONTENT, reverse=True):
        file = root / path
        text = file.read_text()
        file.unlink()
        file.write_text(text)
        os.utime(file, (1, 1))
    (root / "src/envd/__pycache__").mkdir()
    (root / "src/envd/__pycache__/server.cpython-313.pyc").write_text("")
    (root / "README.md").write_text("is in no image")
    assert tags() == before


@pytest.mark.parametrize(
    ("path", "images"),
    [
        ("files/images/sandbox/Dockerfile", {"base", "playwright"}),
        ("files/images/sandbox/ca/README", {"base", "playwright"}),
        ("src/envd/server.py", {"base", "playwright"}),
        ("requirements/envd.txt", {"base", "playwright"}),
        ("files/images/playwright/Dockerfile", {"playwright"}),
        ("files/images/traefik/Dockerfile", {"traefik"}),
        ("templates/usr/local/lib/project-sandbox/bootstrap-base.j2", {"debian", "traefik", "base", "playwright"}),
    ],
)
def test_a_byte_changes_what_is_built_from_it(
    path: str, images: set[str], root: Path, tags: Callable[..., dict[str, str]]
) -> None:
    before = tags()
    (root / path).write_text(CONTENT[path] + "\n")
    assert changed(before, tags()) == images


@pytest.mark.parametrize(
    ("path", "images"),
    [
        ("src/envd/server.py", {"base", "code-interpreter-v1"}),
        ("files/images/code-interpreter/Dockerfile", {"code-interpreter-v1"}),
        ("src/interpreter/app.py", {"code-interpreter-v1"}),
        ("requirements/interpreter.txt", {"code-interpreter-v1"}),
    ],
)
def test_a_code_interpreter_is_built_on_the_sandbox_image(
    path: str, images: set[str], root: Path, tags: Callable[..., dict[str, str]]
) -> None:
    templates = {"base": {}, "code-interpreter-v1": {"context": "code-interpreter"}}
    before = tags(templates=templates)
    assert before["code-interpreter-v1"].startswith("flourisha-code-interpreter-v1:")
    (root / path).write_text(CONTENT[path] + "\n")
    assert changed(before, tags(templates=templates)) == images


def test_the_executable_bit_counts_and_other_bits_do_not(root: Path, tags: Callable[..., dict[str, str]]) -> None:
    before = tags()
    file = root / "files/images/playwright/Dockerfile"
    file.chmod(0o640)
    assert tags() == before
    file.chmod(0o755)
    assert changed(before, tags()) == {"playwright"}


@pytest.mark.parametrize("change", ["add", "rename", "move text", "remove"])
def test_names_count(change: str, root: Path, tags: Callable[..., dict[str, str]]) -> None:
    folder = root / "files/images/traefik"
    (folder / "a").write_text("12")
    (folder / "b").write_text("3")
    before = tags()
    if change == "add":
        (folder / "empty").touch()
    elif change == "rename":
        (folder / "a").rename(folder / "c")
    elif change == "move text":
        (folder / "a").write_text("1")
        (folder / "b").write_text("23")
    else:
        (folder / "b").unlink()
    assert changed(before, tags()) == {"traefik"}


@pytest.mark.parametrize(
    "template",
    [
        {"apt_packages": ["vim"]},
        {"pip_packages": ["polars"]},
        {"npm_packages": ["typescript"]},
        {"python_version": "3.12"},
        {"base_image": "debian:trixie-slim"},
    ],
    ids=lambda template: next(iter(template)),
)
def test_a_build_argument_changes_the_template(template: dict[str, Any], tags: Callable[..., dict[str, str]]) -> None:
    templates = {"base": {}, "playwright": {"context": "playwright"}}
    before = tags(templates=templates)
    assert "base" in changed(before, tags(templates={**templates, "base": template}))
    browser = {"context": "playwright", **template}
    assert changed(before, tags(templates={**templates, "playwright": browser})) == {"playwright"}


def test_limits_do_not_rebuild(tags: Callable[..., dict[str, str]]) -> None:
    changed_limits = {"base": {"memory_mb": 512, "cpus": 1, "pids": 99}, "playwright": {"context": "playwright"}}
    assert tags(templates=changed_limits) == tags()


def test_base_suite_and_base_image(tags: Callable[..., dict[str, str]]) -> None:
    before = tags()
    assert changed(before, tags(base_suite="bookworm")) == {"debian", "traefik", "base", "playwright"}
    assert changed(before, tags(base_image="debian:trixie-slim")) == {"base", "playwright"}


def test_python_mirror_counts_only_where_it_is_used(tags: Callable[..., dict[str, str]]) -> None:
    templates = {"base": {}, "new": {"python_version": "3.12"}}
    before = tags(templates=templates)
    after = tags(templates=templates, python_mirror="https://mirror.example.com")
    assert changed(before, after) == {"new"}


def test_authorities_are_in_every_image(tmp_path: Path, tags: Callable[..., dict[str, str]]) -> None:
    (tmp_path / "office.crt").write_text(CA)
    before = tags()
    after = tags(extra_ca_certificates=[str(tmp_path / "office.crt")])
    assert changed(before, after) == set(before)


def test_the_order_of_authorities_does_not_count(tmp_path: Path, tags: Callable[..., dict[str, str]]) -> None:
    files = [str(tmp_path / name) for name in ("a.crt", "b.crt")]
    for file in files:
        Path(file).write_text(CA)
    assert tags(extra_ca_certificates=files) == tags(extra_ca_certificates=files[::-1])


def test_traefik_from_a_registry(tags: Callable[..., dict[str, str]]) -> None:
    assert tags(traefik_image="traefik:v3.5")["traefik"] == "traefik:v3.5"


def test_a_browser_template_shares_the_image_below_it(data: dict[str, Any], root: Path) -> None:
    """It is built from the plain template with the same arguments, and from one of its own when there is none."""
    data["templates"] = {
        "base": {},
        "browser": {"context": "playwright"},
        "other": {"context": "playwright", "apt_packages": ["vim"]},
    }
    settings = load(data)
    tags = Tags(settings)
    assert tags.sandbox(settings.templates["browser"]) == tags.template(settings.templates["base"])
    assert tags.sandbox(settings.templates["other"]).startswith("flourisha-other-parent:")
    assert images.names(settings) == [
        "flourisha-base",
        "flourisha-browser",
        "flourisha-other",
        "flourisha-other-parent",
        "flourisha-sandbox",
        "flourisha-traefik",
    ]


# --- The parts -------------------------------------------------------------------------------------------------------


def test_digest_is_of_sorted_files() -> None:
    files = {"a": (b"1", False), "b": (b"2", True)}
    assert digest(files) == digest(dict(reversed(files.items())))
    assert len({digest(files), digest(files, "part"), digest({"a": (b"1", True)}), digest({"a": (b"1", False)})}) == 4


def test_archive_is_reproducible_and_holds_no_owner_or_time() -> None:
    files = {"run": (b"#!/bin/sh\n", True), "data/text": (b"text", False)}
    packed = archive(files)
    assert packed == archive(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        entries = {entry.name: (entry.mode, entry.mtime, entry.uid, entry.uname) for entry in tar}
        assert entries == {"data/text": (0o644, 0, 0, ""), "run": (0o755, 0, 0, "")}
        content = tar.extractfile("run")
        assert content and content.read() == b"#!/bin/sh\n"


@pytest.mark.parametrize("name", images.CONTEXTS)
def test_our_contexts_hold_what_their_dockerfile_copies(name: str) -> None:
    """Every source of a COPY from the context is in it; else the first deploy would fail in the middle."""
    files = context(name, {})
    dockerfile = files[f"files/images/{name}/Dockerfile"][0].decode().replace("\\\n", " ")
    sources = [
        word
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--from=" not in line
        for word in line.split()[1:-1]
        if not word.startswith("--")
    ]
    assert sources
    assert [source for source in sources if not any(file.startswith(source) for file in files)] == []


def test_the_build_command_quotes_what_settings_say() -> None:
    arguments = {"BASE": "debian:trixie", "PIP_PACKAGES": "polars>=1 uvicorn[standard]", "APT_PACKAGES": ""}
    command = build_command("image:tag", "sandbox", "/var/lib/x/build/image-tag", arguments)
    build = command.partition("then")[0].removeprefix("if DOCKER_BUILDKIT=1 ")
    words = shlex.split(build.partition(">/var")[0])
    assert words[:2] == ["docker", "build"]
    assert words[-1] == "/var/lib/x/build/image-tag"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--build-arg"] == [
        "BASE=debian:trixie",
        "PIP_PACKAGES=polars>=1 uvicorn[standard]",
    ]


@pytest.mark.parametrize(
    ("printed", "code", "left", "says"),
    [
        ("ok", 0, [], ""),
        ("E: no space", 1, ["image-tag", "image-tag.log"], "E: no space\n"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", 1, ["image-tag", "image-tag.log"], "extra_ca_certificates"),
        ("curl: (60) certificate verify failed", 1, ["image-tag", "image-tag.log"], "extra_ca_certificates"),
    ],
)
def test_what_a_build_leaves_and_says(tmp_path: Path, printed: str, code: int, left: list[str], says: str) -> None:
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho '{printed}'\nexit {code}\n")
    docker.chmod(0o755)
    work = tmp_path / "build"
    (work / "image-tag").mkdir(parents=True)
    command = build_command("image:tag", "sandbox", f"{work}/image-tag", {})
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={"PATH": f"{docker.parent}:/bin:/usr/bin"}, capture_output=True
    )
    assert (done.returncode, done.stdout) == (code, b"")
    assert sorted(path.name for path in work.iterdir()) == left
    assert printed * code in done.stderr.decode() and says in done.stderr.decode()
    assert ("extra_ca" in done.stderr.decode()) == ("extra_ca" in says)
