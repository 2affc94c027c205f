# Everything a person types. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat requirements/dev.txt tools/environment.py | sha256sum | cut -c1-12)
# One host or several: HOST="root@203.0.113.7 root@203.0.113.8:2222"; with none named here or in hosts.toml, the lab.
# Many as a fleet: MANAGERS="root@203.0.113.7" WORKERS="root@203.0.113.8 root@203.0.113.9" (docs/fleet.md).
export HOST MANAGERS WORKERS SSH_PORT SSH_KEY DOMAIN SET LAB DATA NODE
export PYINFRA_PROGRESS ?= off
TARGETS := $(HOST)$(MANAGERS)$(WORKERS)$(wildcard hosts.toml)

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deploy: $(READY) ## Make HOST=root@server DOMAIN=example.com (or, without HOST, a throwaway lab) a sandbox host, and verify it
	@$(if $(TARGETS),,$(PYTHON) -m lab up $(LAB))
	@$(BIN)/python -m deploys.hosts
	@$(BIN)/pyinfra inventory.py deploy.py --yes --fail-percent 0 $(ARGS)
	@$(MAKE) --no-print-directory verify
	@$(BIN)/python -m tools.first_key
	@$(BIN)/python -m tools.next_steps
	@$(if $(TARGETS),,$(BIN)/python -m tools.demo)

plan: $(READY) ## Show what `make deploy` would change, and change nothing
	@$(BIN)/python -m deploys.hosts
	@$(BIN)/pyinfra inventory.py deploy.py --dry --diff $(ARGS)

verify: $(READY) ## Check a deployed host; the report is reports/verify.xml
	@$(BIN)/python -m deploys.hosts
	@$(BIN)/pytest tests/host --verify -m 'not disruptive and not chaos' --junitxml=reports/verify.xml -q $(ARGS)

destroy: $(READY) ## Remove what a deploy put on HOST; DATA=remove also removes sandboxes' data and secrets
	@$(BIN)/python -m tools.destroy $(ARGS)

fleet-forget: $(READY) ## Take the host NODE=name, which is gone or drained, out of the fleet
	@$(BIN)/python -m tools.fleet_forget

lab: $(READY) ## Start the throwaway lab (LAB=name) without deploying to it
	@$(PYTHON) -m lab up $(LAB)

lab-down: ## Remove the lab (LAB=name)
	@$(PYTHON) -m lab down $(or $(LAB),lab)

test: $(READY) ## Everything: static, unit, plan, the host suite on labs of Debian 13 and 12, and a fleet of labs
	@$(if $(ARGS),,$(MAKE) --no-print-directory test-fast ARGS=--junitxml=reports/test-fast.xml)
	@$(BIN)/pytest $(or $(ARGS),tests/host --junitxml=reports/test.xml -n 2 --dist loadgroup)

test-fast: $(READY) ## Static, unit and plan tests: seconds, no Docker
	@$(BIN)/pytest tests/static tests/unit tests/plan -q -n auto --dist loadgroup $(ARGS)

test-chaos: $(READY) ## What nobody planned and what takes long: kills, clock jumps, prunes, ten quiet minutes, on labs
	@$(BIN)/pytest tests/host -m chaos $(ARGS)

test-attack: $(READY) ## Attack a lab from inside a sandbox: as it is, after its engine was restarted, after a reboot
	@$(BIN)/pytest tests/host -m attack --moments all --suite trixie $(ARGS)

test-faults: $(READY) ## Kill and break every part of a lab, in every order: nothing that was acknowledged is lost
	@$(BIN)/pytest tests/host -m faults --suite trixie $(ARGS)

test-fleet: $(READY) ## Three labs as a fleet: what one sees of it, and what it does when hosts fail
	@$(BIN)/pytest tests/host/fleet $(ARGS)

test-nfs: $(READY) ## Kept sandboxes' volumes on NFS: a virtual machine with a server and two hosts
	@$(BIN)/pytest tests/nfs --junitxml=reports/test-nfs.xml $(ARGS)

lint: $(READY) ## Only the static checks
	@$(BIN)/pytest tests/static -q $(ARGS)

bench: $(READY) ## Measure a deployed host, which nobody uses meanwhile, beside plain Docker; ARGS="--quick --only init"
	@$(BIN)/python -m tools.bench $(ARGS)

soak: $(READY) ## Load a deployed host, which nobody uses meanwhile, for MINUTES=60, and see whether anything grew or is left
	@$(BIN)/python -m tools.soak $(MINUTES)

docs: $(READY) ## Make docs/settings.md, security-cis.md and e2b-conformance.md; RESULTS=reports/e2b.json takes over the results of a run
	@$(BIN)/python -m tools.settings_page
	@$(BIN)/python -m tools.cis
	@$(BIN)/python -m tools.e2b_table $(RESULTS)

lock: ## Renew the locked dependencies
	@$(PYTHON) -m tools.lock

vendor: $(READY) ## Renew what the console's pages use of others, by the versions in src/console/assets/vendored.toml
	@$(BIN)/python -m tools.vendor

$(READY): requirements/dev.txt
	@$(PYTHON) -m tools.environment $(VENV) requirements/dev.txt
	@rm -f $(VENV)/.ready-* && touch $@

.PHONY: help deploy plan verify destroy fleet-forget lab lab-down test test-fast test-chaos test-attack test-faults test-fleet test-nfs lint bench soak docs lock vendor
