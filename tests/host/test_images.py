"""The images, and what a sandbox made from them can do."""

from collections.abc import Iterator

import pytest

from deploys.images import Tags
from tests.host.machine import Machine, Sandbox


@pytest.fixture(scope="module")
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    """For tests that leave nothing behind in it."""
    with machine.sandbox() as made:
        yield made


def test_every_image_is_there_under_the_hash_of_its_context(machine: Machine) -> None:
    tags = Tags(machine.settings)
    wanted = {tags.template(template) for template in machine.settings.templates.values()} | {tags.traefik}
    assert wanted <= set(machine.out("docker image ls --format '{{.Repository}}:{{.Tag}}'").splitlines())


def test_no_build_left_anything_behind(machine: Machine) -> None:
    build = f"{machine.settings.state}/build"
    assert machine.out(f"[ ! -d {build} ] || ls -A {build}") == ""  # a host of a fleet that only fetches them has none
    assert machine.out("docker image ls --quiet --filter dangling=true") == ""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("id -un; id -u; pwd; echo $HOME", "user\n1000\n/code\n/home/user"),
        ("stat -c '%U %G' /code", "user user"),
        ("sudo id -un", "root"),
        ("python3 -c 'import fastapi, uvicorn, sqlite3; print(\"ok\")'", "ok"),
        ('node -e \'console.log(process.version.split(".")[0] >= "v22")\'', "true"),
        ("npm --version >/dev/null && npx --version >/dev/null && vite --version | cut -d/ -f1", "vite"),
        ("git --version | cut -d' ' -f1-2; curl --version | head -c4; echo; sqlite3 :memory: 'select 1'", None),
        ("/opt/envd/bin/python -c 'import envd, sys; print(sys.prefix)'", "/opt/envd"),
        ("grep -rhx force-unsafe-io /etc/dpkg/dpkg.cfg.d", "force-unsafe-io"),
        ("echo $PATH | tr : '\\n' | head -n1", "/home/user/.local/bin"),
    ],
)
def test_a_sandbox_has(sandbox: Sandbox, command: str, expected: str | None) -> None:
    got = sandbox.out(command)
    assert got == expected if expected is not None else got.splitlines() == ["git version", "curl", "1"]


@pytest.mark.disruptive
def test_a_template_has_its_own_packages_and_limits(machine: Machine) -> None:
    """The labs have a template `more`: packages of all three kinds, and limits of its own."""
    with machine.sandbox("--template more") as sandbox:
        sandbox.run("tree --version && python3 -c 'import tomlkit' && ls /usr/local/lib/node_modules/left-pad")
        found = sandbox.inspect()
        limits = found["HostConfig"]
        assert found["Config"]["Image"].startswith(f"{machine.project}-more:")
        assert (limits["Memory"], limits["PidsLimit"]) == (512 * 1024 * 1024, 256)
        assert limits["CpuQuota"] / limits["CpuPeriod"] == 0.5
    with machine.sandbox() as plain:
        assert plain.run("command -v tree || python3 -c 'import tomlkit'", check=False).returncode != 0


def test_packages_can_be_installed(machine: Machine) -> None:
    """From Debian, PyPI and npm, with the certificate authorities that the host trusts."""
    with machine.sandbox() as sandbox:
        sandbox.run(
            "sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends tree && tree --version"
        )
        sandbox.run("pip install --quiet --disable-pip-version-check tomlkit && python3 -c 'import tomlkit'")
        sandbox.run("mkdir web && cd web && npm install --silent --no-fund left-pad && ls node_modules/left-pad")


def test_the_browser_works_from_python_and_from_node(machine: Machine) -> None:
    program = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as p:\n"
        "    browser = p.chromium.launch()\n"
        "    page = browser.new_page()\n"
        "    page.goto('data:text/html,<title>seen</title>')\n"
        "    print(page.title())\n"
        "    browser.close()\n"
    )
    script = (
        "const { chromium } = require('playwright');"
        "(async () => { const b = await chromium.launch(); const p = await b.newPage();"
        "await p.goto('data:text/html,<title>seen</title>'); console.log(await p.title()); await b.close(); })();"
    )
    with machine.sandbox("--template playwright") as sandbox:
        assert sandbox.run("python3 -", stdin=program.encode()).stdout.strip() == "seen"
        assert sandbox.run("node -", stdin=script.encode()).stdout.strip() == "seen"
