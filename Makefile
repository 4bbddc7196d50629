# Every target installs what it needs first. `make test` is all of lint, unit, interop, kernel, lab and molecule.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

VENV := .venv/bin
# Ansible, Molecule and the linters call one another by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
unexport PYTHONPATH

# Two files of tests at a time; what a file has built is for all of its tests.
BOTH := --numprocesses 2 --dist loadfile

# One scenario, or all of them.
SCENARIO ?=
SCENARIOS := $(if $(SCENARIO),$(SCENARIO),$(notdir $(patsubst %/molecule.yml,%,$(wildcard extensions/molecule/*/molecule.yml))))

.PHONY: help setup lint unit fuzz fuzz-briefly interop kernel lab molecule test bench soak demo demo-down clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Debian packages and .venv
	@tests/requirements/install

demo: setup ## raise a lab, run playbooks/site.yml on it, show what works; the lab stays up
	@$(VENV)/python demo/demo.py up

demo-down: ## end the demo's lab
	@$(VENV)/python demo/demo.py down

lint: setup ## ruff, mypy, yamllint, ansible-lint, ansible-test sanity
	@echo '==> ruff'
	ruff check .
	ruff format --check .
	echo '==> mypy'
	mypy
	echo '==> yamllint'
	yamllint --strict .
	echo '==> ansible-lint'
	ansible-lint --offline --profile production
	echo '==> ansible-test sanity'
	tests/sanity/run

unit: setup ## unit and property tests
	@pytest $(BOTH) tests/unit

fuzz: setup ## the native core under libFuzzer and the sanitizers, for MINUTES=10
	@$(VENV)/python tests/fuzz/run.py $$(($(or $(MINUTES),10) * 60))

fuzz-briefly: setup
	@$(VENV)/python tests/fuzz/run.py 20

interop: setup ## against wireguard-go and `wg`, in network namespaces
	@pytest $(BOTH) tests/interop

kernel: setup ## under Debian's kernels, in QEMU: their WireGuard, and what some lack
	@echo '==> WireGuard in the kernel'
	tests/qemu/vm -- pytest -p no:cacheprovider tests/kernel --ignore tests/kernel/lacking
	echo '==> an old kernel, without WireGuard'
	tests/qemu/vm --suite bullseye --append modprobe.blacklist=wireguard -- pytest -p no:cacheprovider tests/kernel/lacking/test_old.py
	echo '==> a kernel without IPv6'
	tests/qemu/vm --append ipv6.disable=1 -- pytest -p no:cacheprovider tests/kernel/lacking/test_no_ipv6.py

lab: setup ## the lab that the scenarios and the demo run on
	@pytest tests/lab

molecule: setup ## the scenarios on lab hosts; SCENARIO=name for one
	@for scenario in $(SCENARIOS); do
		echo "==> molecule: $$scenario"
		MOLECULE_COMMAND_BORDERS=0 molecule test --scenario-name "$$scenario"
	done

test: lint unit fuzz-briefly interop kernel lab molecule ## all of it

bench: setup ## measure, side by side with the peers; WORK=name for one; writes build/bench.json and a plot
	@$(VENV)/python benchmarks/run.py $(if $(WORK),--only $(WORK))

soak: setup ## both cores under changing load for MINUTES=30: no growth of memory, descriptors or drops
	@$(VENV)/python benchmarks/soak.py --minutes $(or $(MINUTES),30)

clean: ## what the build made; the lab's cached root file systems stay
	rm -rf build .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
