"""Metrics and the audit log of a real host: what a scrape shows, who did what, and a real Prometheus."""

import json
import shlex
from functools import partial
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploys import ROOT
from tests.host.api import with_key
from tests.host.machine import Machine, eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

PROMETHEUS = """
global: {{scrape_interval: 2s}}
rule_files: [/tmp/observe/alerts.yml]
scrape_configs:
  - job_name: sandbox
    static_configs: [targets: ["{listen}"]]
  - job_name: sandbox-remote
    scheme: https
    authorization: {{credentials_file: /tmp/observe/token}}
    tls_config: {{ca_file: {authority}}}
    static_configs: [targets: ["api.{domain}"]]
"""


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(machine: Machine) -> Samples:
    return samples(machine.out("docker-sandbox metrics") + "\n")


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def audit(machine: Machine, flags: str = "") -> list[dict[str, Any]]:
    return [json.loads(line) for line in machine.out(f"docker-sandbox audit --since all --json {flags}").splitlines()]


def secret(machine: Machine) -> str:
    return machine.out(f"cat {machine.settings.etc}/secrets/metrics_token")


def test_a_sandbox_a_claim_and_the_gateways_answers_are_in_a_scrape(machine: Machine) -> None:
    machine.out("docker-sandbox pool start --wait")
    before = scrape(machine)
    template = machine.settings.default_template
    with machine.sandbox() as sandbox:
        sandbox.run("true")  # through the gateway
        machine.request("GET", f"https://qa-{'0' * 12}.{machine.settings.domain}/")
        after = scrape(machine)

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert value(after, "sandbox_instances", state="running", template=template) >= 1
    assert grew("sandbox_pool_claims_total", template=template, result="hit") >= 1
    assert grew("sandbox_claim_duration_seconds_count", template=template) >= 1
    assert grew("sandbox_gateway_responses_total", side="frontend", proxy="gateway", code="2xx") >= 1
    assert grew("sandbox_gateway_responses_total", side="frontend", proxy="gateway", code="5xx") >= 1
    labels = {"api": "cli", "method": "POST", "route": "/v2/sandboxes", "status": "2xx"}
    assert grew("sandboxd_http_request_duration_seconds_count", **labels) >= 1
    parts = {dict(labels)["part"]: error for (name, labels), error in after.items() if name == "sandboxd_scrape_error"}
    assert {part: error for part, error in parts.items() if error} == {}
    assert value(after, "sandbox_certificate_not_after_timestamp_seconds") > 1.7e9
    assert value(after, "sandbox_host_disk_free_bytes", place="docker") > 0


def test_the_metrics_are_for_who_may_see_them(machine: Machine) -> None:
    url = f"https://api.{machine.settings.domain}/metrics"
    assert machine.request("GET", url).status_code == 401
    answer = machine.request("GET", url, headers={"Authorization": f"Bearer {secret(machine)}"})
    assert answer.status_code == 200 and "sandboxd_build_info" in answer.text
    with with_key(machine, "test-observe") as api:
        assert api.request("GET", "/metrics").status_code == 403
    listen = machine.settings.metrics_listen
    assert "sandboxd_build_info" in machine.out(f"curl -sf http://{listen}/metrics")
    host, _, port = listen.rpartition(":")
    assert machine.out(f"ss -Hltn 'sport = :{port}' | awk '{{print $4}}'") == f"{host}:{port}"
    with machine.sandbox() as sandbox:
        (network,) = sandbox.inspect()["NetworkSettings"]["Networks"].values()
        gateway = network["Gateway"]
        refused = sandbox.run(f"curl -sf -m 5 http://{gateway}:{port}/metrics", check=False)
        assert refused.returncode != 0, "a sandbox sees none of it"


def test_the_life_of_a_sandbox_is_on_record_with_who_did_what(machine: Machine) -> None:
    machine.out("docker-sandbox pool start --wait")
    with machine.sandbox("--env SECRET=hunter2 --timeout 1h") as sandbox:
        for verb in ("pause", "resume", "stop", "start"):
            machine.out(f"docker-sandbox {verb} {sandbox.id[:8]}")
        machine.out(f"docker-sandbox network {sandbox.id} --network none")
        machine.out(f"docker-sandbox extend {sandbox.id} 2h")
        sandbox.run("echo hunter2")
    records = audit(machine, f"--id {sandbox.id}")
    assert [one["action"] for one in records if one["actor"]["kind"] == "user"] == [
        *("claim", "pause", "resume", "stop", "start", "network", "extend", "kill")
    ]
    assert [one["action"] for one in records if one["actor"]["kind"] == "pool"] == ["fill"]
    assert {one["actor"]["name"] for one in records if one["actor"]["kind"] == "user"} == {"root"}
    assert {one["outcome"] for one in records} == {"ok"}
    machine.run(f"! grep -r hunter2 {machine.settings.log}")
    assert machine.out(f"stat -c '%U:%G %a' {machine.settings.log}/audit.log") == "root:adm 640"


def test_keys_and_their_clients_are_on_record(machine: Machine) -> None:
    with with_key(machine, "test-observe") as api:
        made = api.create(timeout=1)["sandboxID"]
        eventually(lambda: audit(machine, f"--id {made} --actor expiry"), bool, 60, "its end")
        assert api.request("DELETE", f"/sandboxes/{made}").status_code == 404
        assert api.request("POST", "/v2/sandboxes", headers={"X-API-Key": "e2b_0"}, json={}).status_code == 401
    first, *_, last = audit(machine, f"--id {made} --actor test-observe")
    assert first["action"] in ("claim", "create") and first["address"] and first["outcome"] == "ok"
    assert (last["action"], last["status"]) == ("kill", 404)
    ended = audit(machine, f"--id {made} --actor expiry")
    assert [(one["action"], one["detail"]) for one in ended] == [("remove", "timeout reached")]
    assert any(one["status"] == 401 for one in audit(machine, "--actor nobody --action create"))
    keys = audit(machine, "--action key-create --action key-revoke")
    assert [one["action"] for one in keys][-2:] == ["key-create", "key-revoke"]


def test_only_root_and_adm_read_it(machine: Machine) -> None:
    read = "runuser -u nobody -- docker-sandbox audit"
    refused = machine.run(read, check=False)
    assert refused.returncode == 1 and "root and the group adm" in refused.stderr
    machine.out("runuser -u nobody -g adm -- docker-sandbox audit --since 1h")


@pytest.mark.disruptive
def test_a_rotation_loses_no_line(machine: Machine) -> None:
    """Twice and under load, so that one file is compressed. The daemon is told nothing of it.

    The second time once something is in the new file: before that there is nothing to rotate.
    """
    each = 20
    with machine.sandbox() as sandbox:
        extend = f"for n in $(seq {each}); do docker-sandbox extend {sandbox.id} 2h; done &"
        rotate = f"logrotate -f /etc/logrotate.d/{machine.settings.name}"
        written = f"timeout 60 sh -c 'until [ -s {machine.settings.log}/audit.log ]; do sleep 0.1; done'"
        script = f"{extend} {extend} {extend} sleep 1; {rotate}; {written}; {rotate}; wait"
        machine.run(f"bash -c {shlex.quote(script)}")
        assert len(audit(machine, f"--id {sandbox.id} --action extend")) == 3 * each
    files = machine.out(f"ls {machine.settings.log}").splitlines()
    assert {"audit.log", "audit.log.1", "audit.log.2.gz"} <= set(files)
    line = machine.out(f"tail -n 1 /etc/cron.d/{machine.settings.name}-logrotate")
    machine.run(f"sh -c {shlex.quote(line.partition(' root ')[2])}")


@pytest.mark.disruptive
def test_a_full_disk_stops_nobody_and_is_told(machine: Machine) -> None:
    """A small file system over the directory: the daemon sees another file there, and no room for it."""
    log = machine.settings.log
    machine.run(f"mount -t tmpfs -o size=64k,mode=750 tmpfs {log} && head -c 65536 /dev/zero >{log}/filler")
    try:
        with machine.sandbox() as sandbox:
            assert sandbox.out("echo served") == "served"
            socket = f"/run/{machine.settings.name}/sandboxd.sock"
            health = eventually(
                lambda: machine.out(f"curl -fsS --unix-socket {socket} http://sandboxd/health"),
                lambda text: "records are lost" in text,
                60,
                "trouble",
            )
            assert "No space left on device" in health
            assert value(scrape(machine), "sandboxd_audit_lost_total") >= 1
    finally:
        machine.run(f"umount --lazy {log}")
    with machine.sandbox() as sandbox:
        assert audit(machine, f"--id {sandbox.id} --actor root"), "it goes on in the old file"


@pytest.mark.disruptive
@pytest.mark.suite("trixie")
def test_a_real_prometheus_reads_it_both_ways(machine: Machine) -> None:
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
    machine.run(f"command -v prometheus || {{ apt-get update -qq; {install} prometheus; }}")
    machine.run("systemctl stop prometheus 2>/dev/null; mkdir -p /tmp/observe; chmod 755 /tmp/observe")
    with machine.sandbox():
        checked = machine.run("docker-sandbox metrics | promtool check metrics", check=False)
        assert checked.returncode == 0 and checked.stderr == "" and checked.stdout == "", checked
        config = PROMETHEUS.format(
            listen=machine.settings.metrics_listen,
            authority=f"{machine.settings.etc}/ca/ca.pem",
            domain=machine.settings.domain,
        )
        machine.run("cat >/tmp/observe/alerts.yml", stdin=(ROOT / "files/prometheus/alerts.yml").read_bytes())
        machine.run("cat >/tmp/observe/prometheus.yml", stdin=config.encode())
        machine.run(f"install -m 600 {machine.settings.etc}/secrets/metrics_token /tmp/observe/token")
        machine.run("promtool check config /tmp/observe/prometheus.yml")
        line = f"127.0.0.1 api.{machine.settings.domain}"
        machine.run(f"grep -qxF '{line}' /etc/hosts || echo '{line}' >>/etc/hosts")
        machine.run(
            "systemd-run --quiet --unit observe-prometheus prometheus --config.file /tmp/observe/prometheus.yml"
            " --storage.tsdb.path /tmp/observe/data --web.listen-address 127.0.0.1:9099"
        )
        try:
            for job in ("sandbox", "sandbox-remote"):
                query = f'sum(sandbox_instances{{job="{job}",state="running"}})'
                found = eventually(partial(ask, machine, query), bool, 60, f"a value of {job}")
                assert float(found[0]["value"][1]) >= 1
            assert [one["value"][1] for one in ask(machine, "sandboxd_scrape_error == 1")] == []
            rules = json.loads(machine.out("curl -s http://127.0.0.1:9099/api/v1/rules"))["data"]["groups"]
            assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
        finally:
            machine.run("systemctl stop observe-prometheus; rm -rf /tmp/observe", check=False)
            machine.run(f"grep -vxF '{line}' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts; rm /tmp/hosts")


def ask(machine: Machine, query: str) -> list[dict[str, Any]]:
    """What Prometheus knows; nothing while it does not listen yet, or answers 503 because it still starts."""
    url = "http://127.0.0.1:9099/api/v1/query"
    answer = machine.run(f"curl -sf -G {url} --data-urlencode {shlex.quote(f'query={query}')}", check=False).stdout
    return list(json.loads(answer)["data"]["result"]) if answer else []
