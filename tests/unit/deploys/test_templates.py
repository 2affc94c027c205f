"""Every template, as pyinfra renders it (strictly: an unknown name is an error) with few, default and many settings.

The renderings come from the plans in tests/plan, so from the deploys' own calls. Shell scripts and units are checked by
their tools in tests/static.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploys.gateway import PAGES
from group_data.all import templates
from sandboxd import config
from sandboxd.cli import place
from tests.plan.process import ROOT, placed, rendered
from tests.plan.scenarios import CASES, DOMAIN

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")

TEMPLATES = sorted(str(path.relative_to(ROOT / "templates"))[: -len(".j2")] for path in ROOT.glob("templates/**/*.j2"))
SIZES = ("minimal", "default", "maximal")
FLEET_HOSTS = ("fleet-manager", "fleet-worker")
# What only other settings bring to a host.
CASES_OF = {
    "etc/apparmor.d/project-sandbox": ("apparmor", "apparmor-12"),
    "etc/apt/sources.list.d/docker.sources": ("docker-repository", "maximal"),
    # Of a fleet: on its managers, and on all its hosts.
    "etc/docker/registry/config.yml": ("fleet-manager",),
    "etc/systemd/system/docker-registry.service.d/60-project-sandbox.conf": ("fleet-manager",),
    "etc/project-sandbox/fleet.nft": FLEET_HOSTS,
    "etc/project-sandbox/fleet.toml": ("fleet-manager", "fleet-shared"),
    "etc/project-sandbox/node.toml": ("fleet-manager",),
    "etc/project-sandbox/swarmd.json": FLEET_HOSTS,
    "etc/systemd/system/project-fleet.service": ("fleet-manager",),
    "etc/systemd/system/project-fleet-certificate.path": FLEET_HOSTS,
    "etc/systemd/system/project-fleet-certificate.service": FLEET_HOSTS,
    "etc/systemd/system/project-fleet-firewall.service": FLEET_HOSTS,
    "etc/systemd/system/project-fence@.service": ("fleet-shared",),
    "etc/systemd/system/project-swarmd.service": FLEET_HOSTS,
    "usr/local/lib/project-sandbox/docker-sandbox-node": ("fleet-manager",),
    "usr/local/lib/project-sandbox/fence": ("fleet-shared",),
    "usr/local/lib/project-sandbox/fleet-certificate": FLEET_HOSTS,
}


def renderings(template: str) -> dict[str, str]:
    """The template's renderings by case, at least one."""
    found = {case: rendered(template, case) for case in CASES_OF.get(template, SIZES)}
    texts = {case: text for case, text in found.items() if text is not None}
    assert texts, f"no deploy places {template}"
    return texts


def one(template: str, case: str) -> str:
    text = rendered(template, case)
    assert text is not None, f"{template} is not placed with {case} settings"
    return text


@pytest.mark.parametrize("template", TEMPLATES)
def test_renders(template: str) -> None:
    for case, text in renderings(template).items():
        assert text.strip(), case
        assert text.endswith("\n"), f"{case}: cron ignores a file without a last newline, and others may"
        assert [line for line in text.splitlines() if line != line.rstrip()] == [], case
        assert "{%" not in text and "{#" not in text, case
        # Go's templates in `docker --format` are the only double braces that may be left.
        assert re.findall(r"\{\{(?!\.)|None|Undefined|jinja", text) == [], case


@pytest.mark.parametrize("template", TEMPLATES)
def test_says_where_it_comes_from(template: str) -> None:
    """Whoever finds the file on a host sees that an edit will be overwritten; where a comment is possible."""
    uncommented = {
        "etc/docker/daemon.json",
        "etc/project-sandbox/swarmd.json",
        "etc/project-sandbox/release",
        *(f"etc/project-sandbox/pages/{page}.html" for page in PAGES),
    }
    scripts = "usr/local/lib/"
    for text in renderings(template).values():
        said = "Written by the deploy of" in " ".join(text.splitlines()[:2])
        assert said == (template not in uncommented and not template.startswith(scripts))


@pytest.mark.parametrize("case", CASES)
def test_sandboxd_accepts_its_configuration(case: str, tmp_path: Path) -> None:
    text = one("etc/project-sandbox/config.toml", case)
    values = tomllib.loads(text)
    (tmp_path / "config.toml").write_text(text)
    loaded = config.load(tmp_path / "config.toml")
    settings = CASES[case].settings
    project = settings.get("project", "flourisha")
    assert (loaded.project, loaded.domain) == (project, DOMAIN)
    assert loaded.templates[loaded.default_template].pool == settings.get("pool_size", 3)
    assert str(loaded.state_dir) == f"/var/lib/{project}-sandbox"
    assert set(loaded.templates) == set(settings.get("templates", templates))
    assert set(values) >= {"gateway", "templates"}


def test_limits_of_templates_reach_sandboxd(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(one("etc/project-sandbox/config.toml", "templates"))
    templates = config.load(tmp_path / "config.toml").templates
    browser = templates["browser"]
    assert (browser.memory_mb, browser.cpus, browser.pids) == (4096, 4.0, 4096)
    assert (templates["base"].memory_mb, templates["base"].cpus, templates["base"].pids) == (2048, 2.0, 1024)
    assert re.fullmatch(r"team/old:[0-9a-f]{12}", templates["old"].image)


@pytest.mark.parametrize(
    ("case", "template", "authority"),
    [
        ("default", "playwright", "/etc/flourisha-sandbox/ca/ca.pem"),
        ("tls-acme", "playwright", ""),
        ("tls-files", "playwright", ""),
        ("templates", "browser", "/etc/flourisha-sandbox/ca/ca.pem"),
        ("minimal", "", "/etc/flourisha-sandbox/ca/ca.pem"),
    ],
)
def test_the_command_line_learns_which_template_has_a_browser_and_whom_it_trusts(
    case: str, template: str, authority: str, tmp_path: Path
) -> None:
    """The host's own authority is trusted only where it issued the certificate that is served."""
    (tmp_path / "config.toml").write_text(one("etc/project-sandbox/config.toml", case))
    found = place.read_browser(str(tmp_path / "config.toml"))
    assert found == (template, "/usr/local/lib/flourisha-sandbox/browser-test", authority)


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name.endswith((".yml", ".yaml"))])
def test_yaml_parses(template: str) -> None:
    for text in renderings(template).values():
        assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("case", SIZES)
def test_daemon_json_parses(case: str) -> None:
    options = json.loads(one("etc/docker/daemon.json", case))
    settings = CASES[case].settings
    assert options["live-restore"] is True
    assert options["default-runtime"] == settings.get("docker_runtime", "crun")
    assert ("userns-remap" in options) == settings.get("docker_userns_remap", True)
    assert options["log-opts"]["max-file"] == str(settings.get("docker_log_max_files", 3))
    (pool,) = options["default-address-pools"]
    assert pool["size"] == settings.get("docker_network_prefix", 28)


def routers(case: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(one("etc/traefik/dynamic/sandboxes.yml", case))
    return dict(content["http"]["routers"])


@pytest.mark.parametrize("case", SIZES)
def test_the_wildcard_router(case: str) -> None:
    wildcard = routers(case)["qa-wildcard"]
    (pattern,) = re.fullmatch(r"HostRegexp\(`(.*)`\)", wildcard["rule"]).groups()  # type: ignore[union-attr]
    hosts = {
        f"qa-0123456789ab.{DOMAIN}": True,
        f"8000-0123456789ab.{DOMAIN}": True,
        f"49983-0123456789ab-client.{DOMAIN}": True,
        f"api.{DOMAIN}": False,
        f"qa-.{DOMAIN}": False,
        f"123456-0123456789ab.{DOMAIN}": False,
        f"qa-0123456789ab.{DOMAIN}.evil.example": False,
        f"x.qa-0123456789ab.{DOMAIN}": False,
        f"qa-0123456789ab.{DOMAIN.replace('.', 'x')}": False,
    }
    assert {host: bool(re.search(pattern, host)) for host in hosts} == hosts


@pytest.mark.parametrize(
    ("case", "router", "certificates", "resolver"),
    [
        ("default", {}, True, False),
        ("tls-files", {}, True, False),
        ("tls-acme", {"certResolver": "acme", "domains": [{"main": f"*.{DOMAIN}"}]}, False, True),
        ("tls-acme-private", {"certResolver": "acme", "domains": [{"main": f"*.{DOMAIN}"}]}, False, True),
    ],
)
def test_tls_modes(case: str, router: dict[str, Any], certificates: bool, resolver: bool) -> None:
    """A certificate in a file and one by ACME exclude each other: Traefik orders none for a name that it has."""
    assert [found["tls"] for found in routers(case).values()] == [router] * len(routers(case))
    assert ("tls" in (yaml.safe_load(one("etc/traefik/dynamic/tls.yml", case)) or {})) == certificates
    static = yaml.safe_load(one("etc/traefik/traefik.yml", case))
    assert ("certificatesResolvers" in static) == resolver
    if resolver:
        acme = static["certificatesResolvers"]["acme"]["acme"]
        assert acme["email"] == CASES[case].settings["acme_email"]


@pytest.mark.parametrize(
    ("case", "server", "store", "challenge"),
    [
        (
            "tls-acme",
            "https://acme-v02.api.letsencrypt.org/directory",
            f"/acme/production-{DOMAIN}.json",
            {"provider": "cloudflare"},
        ),
        (
            "tls-acme-private",
            "https://ca.internal.example:14000/dir",
            f"/acme/c6af55ce-{DOMAIN}.json",
            {
                "provider": "rfc2136",
                "resolvers": ["10.0.0.53", "10.0.1.53:5353"],
                "propagation": {"disableANSChecks": True, "requireAllRNS": True},
            },
        ),
    ],
)
def test_orders(case: str, server: str, store: str, challenge: dict[str, Any]) -> None:
    static = yaml.safe_load(one("etc/traefik/traefik.yml", case))
    acme = static["certificatesResolvers"]["acme"]["acme"]
    assert (acme["caServer"], acme["storage"], acme["dnsChallenge"]) == (server, store, challenge)
    assert static["log"]["filePath"] == "/acme/traefik.log", "where doctor and the deploy look"
    assert "filePath" not in yaml.safe_load(one("etc/traefik/traefik.yml", "default"))["log"]


def test_traefik_has_no_docker_provider_and_writes_without_a_limit() -> None:
    static = yaml.safe_load(one("etc/traefik/traefik.yml", "default"))
    assert list(static["providers"]) == ["file"]
    timeouts = static["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]
    assert timeouts["writeTimeout"] == "0s"


def test_no_timeout_of_the_gateway_cuts_what_is_quiet_for_ten_minutes() -> None:
    """`make test-chaos` waits for it; here the numbers, in seconds."""
    text = one("etc/haproxy/haproxy.cfg", "default")
    units = {"ms": 0.001, "s": 1, "h": 3600}
    found = {
        name: int(n) * units[unit] for name, n, unit in re.findall(r"^    timeout (\S+) (\d+)(ms|s|h)$", text, re.M)
    }
    assert all(found[name] > 600 for name in ("client", "server", "tunnel"))
    static = yaml.safe_load(one("etc/traefik/traefik.yml", "default"))["entryPoints"]["websecure"]["transport"]
    limits = static["respondingTimeouts"]
    assert int(limits["readTimeout"][:-1]) > 600 and int(limits["idleTimeout"][:-1]) > 600


@pytest.mark.parametrize("backend", ["sandboxes", "sandboxes_page", "special", "special_page"])
def test_every_backend_of_sandboxes_keeps_previews_and_clients_apart(backend: str) -> None:
    """tests/host tries these rules; a backend that is added must have them, too."""
    text = one("etc/haproxy/haproxy.cfg", "default")
    (rules,) = re.findall(rf"^backend {backend}\n((?:.*\n)*?)(?=^backend |\Z)", text, re.M)
    for rule in ("replace-header Set-Cookie", "del-header Clear-Site-Data", "set-header Connection close if body"):
        assert rule in rules


@pytest.mark.parametrize("backend", ["api", "console"])
def test_no_request_meets_a_connection_that_uvicorn_closes(backend: str) -> None:
    """It does after 5 s of idleness, less than HAProxy's own limit: so none is kept."""
    (rules,) = re.findall(
        rf"^backend {backend}\n((?:.*\n)*?)(?=^backend |\Z)", one("etc/haproxy/haproxy.cfg", "default"), re.M
    )
    assert "    option http-server-close\n" in rules


@pytest.mark.parametrize("case", SIZES)
def test_cron_runs_the_cleanup_as_asked(case: str) -> None:
    settings = CASES[case].settings
    line = one("etc/cron.d/project-sandbox-cleanup", case).splitlines()[-1]
    assert line.startswith(f"{settings.get('cleanup_schedule', '0 * * * *')} root flock -n ")
    assert f"docker-sandbox cleanup --older-than {settings.get('cleanup_older_than', '24h')} " in line
    assert "%" not in line, "cron makes a newline of a per cent sign"


def test_cron_takes_the_name_of_its_file() -> None:
    """A dot in the name of a file in /etc/cron.d switches it off."""
    names = [path.rpartition("/")[2] for case in SIZES for path in placed(case) if path.startswith("/etc/cron.d/")]
    assert names
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9_-]+", name)] == []


@pytest.mark.parametrize("case", SIZES)
def test_haproxy_knows_the_default_port_and_the_routes(case: str) -> None:
    settings = CASES[case].settings
    text = one("etc/haproxy/haproxy.cfg", case)
    assert f"set-var(txn.port) int({settings.get('default_port', 8000)}) if named" in text
    assert f"map_str(/var/lib/{settings.get('project', 'flourisha')}-sandbox/routes.map)" in text
    assert not re.search(r"^\s*maxconn", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_pages_stand_alone_and_run_nothing(page: str) -> None:
    """In the dark and on a phone, too. A per cent sign of CSS is doubled: HAProxy fills the page in."""
    text = one(f"etc/project-sandbox/pages/{page}.html", "default")
    assert "<script" not in text and "http://" not in text and "https://" not in text
    assert "color-scheme: light dark" in text and '<meta name="viewport"' in text
    assert re.findall(r"%[^%\[]", text.replace("%%", "")) == []
    assert ('http-equiv="refresh"' in text) == (page in ("waking", "not-woken"))


@pytest.mark.parametrize("case", SIZES)
def test_the_gateway_bounds_guesses_and_the_api(case: str) -> None:
    text, settings = one("etc/haproxy/haproxy.cfg", case), CASES[case].settings
    assert f"acl guesses sc0_gpc0_rate(failed_tries) ge {settings.get('failed_tries_per_minute', 60)}" in text
    requests = settings.get("api_requests_per_minute", 12000)
    limited = 1 + CASES[case].settings.get("console", True) if requests else 0
    assert text.count(f"sc0_http_req_rate(api_requests) gt {requests} }}") == limited
    assert ("backend api_requests" in text) == bool(requests)


@pytest.mark.parametrize("case", SIZES)
def test_the_plain_way_to_a_public_sandbox_has_no_rule_of_the_closed(case: str) -> None:
    """It costs each request some per cent: rare rules stand in the backends `special*`."""
    text = one("etc/haproxy/haproxy.cfg", case)
    frontend = text.partition("frontend gateway")[2].partition("\nbackend ")[0]
    plain = text.partition("\nbackend sandboxes\n")[2].partition("\nbackend ")[0]
    for part in (frontend, plain):
        assert "set-dst" in part or "use_backend special" in part
        for rare in ("req.cook", "sandbox_link", "hmac", "authorization", "track-sc0", "lua.wake", "lua.resume"):
            assert rare not in part, rare


def test_secrets_are_compared_in_constant_time() -> None:
    text = one("etc/haproxy/haproxy.cfg", "default")
    assert text.count("secure_memcmp(txn.digest)") == 2 and text.count("secure_memcmp(txn.proof)") == 4
    assert "strcmp" not in text


@pytest.mark.parametrize("case", SIZES)
def test_wake_and_idle_pause_reach_sandboxd(case: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(one("etc/project-sandbox/config.toml", case))
    loaded, settings = config.load(tmp_path / "config.toml"), CASES[case].settings
    assert loaded.wake_on_visit == settings.get("wake_on_visit", True)
    assert loaded.idle_pause_s == {"": None, "90m": 5400.0}[settings.get("idle_pause_after", "")]


def test_apt_lists_what_an_update_at_night_must_leave_alone() -> None:
    text = one("etc/apt/apt.conf.d/52unattended-upgrades-project-sandbox", "default")
    blacklist = re.findall(r'"(\^\S+)";', text)
    for package in ("docker.io", "docker-ce", "containerd", "runc", "crun", "haproxy"):
        assert any(re.search(pattern, package) for pattern in blacklist), package


def test_sysctls() -> None:
    text = one("etc/sysctl.d/60-project-sandbox.conf", "maximal")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ["fs.inotify.max_user_instances = 65536", "vm.swappiness = 10"]
