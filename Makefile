# `make help` lists the targets. README needs two: `make run` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
# A number of runs, not a time: Go 1.26 calls the end of a time a failure now and then (go.dev/issue/75804).
FUZZTIME ?= 30000x
BENCHFLAGS ?=

# Released programs do not link libc, so neither do those that are tested; only the race detector needs it.
export CGO_ENABLED := 0
# Git answers no questions in a clone that belongs to somebody else, and the go command takes that for an error.
export GOFLAGS := $(shell go env GOFLAGS 2>/dev/null) -buildvcs=false
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
VERSION ?= $(shell git describe --tags 2>/dev/null || echo devel)

TOOLS := .cache/bin
PACKAGES := $$(go list ./... | grep -v '^sandboxd/integration')
# Backends whose every start takes long, and the rest.
SLOW := ./spawn/gvisor ./spawn/microvm
QUICK := $$(go list ./... | grep -Ev '^sandboxd/(integration|spawn/(gvisor|microvm))')
# What `make test` and CI do, in this order.
STAGES := setup build lint generate-check vet unit python race fuzz cross integration vm-smoke vuln

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Run an untrusted program under limits, and show its output and the report
	@scripts/setup.sh run
	@$(MAKE) --no-print-directory bin/sandboxd
	@scripts/run.sh

.PHONY: test
test: ## Everything that CI runs
	@MAKE='$(MAKE)' scripts/stages.sh $(STAGES)

.PHONY: setup
setup: ## Install the Debian packages and Go modules that `make test` needs
	@scripts/setup.sh test
	go mod download
	go mod download -C cmd/sandboxd-container
	go mod download -C tools/runsc

.PHONY: bin/sandboxd
bin/sandboxd: ## Build the command
	go build -trimpath -buildvcs=$(VCS) -ldflags "-s -w -X main.Version=$(VERSION)" -o $@ ./cmd/sandboxd

# The helper of the container backend is a module of its own, and the only program that takes cgo. Static, for it starts
# sooner so and runs on any host.
CONTAINER ?= bin/sandboxd-container
.PHONY: $(CONTAINER)
$(CONTAINER): ## Build the helper of the container backend
	CGO_ENABLED=1 go build -C cmd/sandboxd-container -trimpath -buildvcs=$(VCS) -tags netgo,osusergo \
		-ldflags "-s -w -X main.Version=$(VERSION) -linkmode external -extldflags -static" -o $(abspath $(CONTAINER)) .

# The worker of the wasm backend, which alone links a WebAssembly runtime.
WASM ?= bin/sandboxd-wasm
.PHONY: $(WASM)
$(WASM): ## Build the worker of the wasm backend
	go build -trimpath -buildvcs=$(VCS) -ldflags "-s -w -X main.Version=$(VERSION)" -o $(WASM) ./cmd/sandboxd-wasm

# gVisor's runsc, for the backend gvisor: a module of its own, which says the version. It takes minutes once, so it is
# made again only where that changes.
bin/runsc: tools/runsc/go.mod tools/runsc/go.sum ## Build runsc for the backend gvisor
	v=$$(go list -C tools/runsc -m -f '{{.Version}}' gvisor.dev/gvisor) && \
	go build -C tools/runsc -trimpath -ldflags "-s -w -X gvisor.dev/gvisor/runsc/version.version=$$v" -o $(CURDIR)/$@ gvisor.dev/gvisor/runsc

.PHONY: build
build: bin/sandboxd $(WASM) $(CONTAINER) ## Build the commands and every package
	go build ./...

.PHONY: lint
lint: $(TOOLS)/.built ## Check style, likely mistakes and the layer rules
	$(TOOLS)/golangci-lint run ./...
	GOARCH=arm64 $(TOOLS)/golangci-lint run ./...
	cd cmd/sandboxd-container && CGO_ENABLED=1 $(abspath $(TOOLS))/golangci-lint run ./...
	go mod tidy -diff
	go mod tidy -C cmd/sandboxd-container -diff
	@scripts/vagrantfile.sh

.PHONY: fmt
fmt: $(TOOLS)/.built ## Format the Go code
	$(TOOLS)/golangci-lint fmt
	cd cmd/sandboxd-container && $(abspath $(TOOLS))/golangci-lint fmt

.PHONY: fix
fix: $(TOOLS)/.built ## Let golangci-lint mend what it can
	$(TOOLS)/golangci-lint run --fix ./...

# The first time this takes some minutes; the go command caches all but the linking.
$(TOOLS)/.built: tools/go.mod tools/go.sum
	go build -C tools -trimpath -ldflags "-s -w" -o ../$(TOOLS)/ tool
	@touch $@

.PHONY: generate
generate: ## Make again what is derived: init objects, seccomp tables, layer rules, THIRD_PARTY
	go generate ./...
	go test -count=1 -run '^(TestLintLayers|TestThirdParty)$$' ./internal/repo -update

.PHONY: generate-check
generate-check: ## Check that what is derived is what its sources say
	@MAKE='$(MAKE)' scripts/generated.sh

.PHONY: vet
vet: ## Run go vet
	go vet ./...
	go vet -C bench/grpc ./...
	CGO_ENABLED=1 go vet -C cmd/sandboxd-container ./...

.PHONY: unit
unit: bin/runsc ## Run the tests of the packages
	go test -count=1 -timeout 40m $(QUICK)
	go test -short -skip '^TestKVM$$' -count=1 -timeout 40m $(SLOW)

.PHONY: unit-slow
unit-slow: bin/runsc ## Run all tests of the backends whose every start takes long: an hour, where machines are emulated
	go test -count=1 -timeout 3h $(SLOW)

# Debian's own Python is the one that python3-msgpack is for.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)

.PHONY: python
python: ## Run the tests of sdk/python
	cd sdk/python && timeout 10m $(PYTHON) -B -W error::ResourceWarning -m unittest

.PHONY: race
# Of the slow ones, what is concurrent is native's.
race: ## Run them under the race detector, but for kills and what repeats as a user or with Python
	CGO_ENABLED=1 go test -race -short -skip '^TestKill|^TestPython|AsUser$$' -count=1 -timeout 40m $(QUICK)

.PHONY: fuzz
fuzz: ## Run every fuzz target FUZZTIME times, or for so long
	@scripts/fuzz.sh $(FUZZTIME) $(PACKAGES)

.PHONY: cross
cross: ## Build and vet for arm64, and for WASI what runs as a module
	GOOS=wasip1 GOARCH=wasm go vet ./sandbox/peer ./examples/wasi ./spawn/wasm/internal/...
	GOARCH=arm64 go build ./...
	GOARCH=arm64 go vet ./...
	GOARCH=arm64 CGO_ENABLED=1 CC=aarch64-linux-gnu-gcc go build -C cmd/sandboxd-container -o /dev/null .

.PHONY: integration
integration: bin/runsc ## Drive the finished program from outside, under a watchdog
	@mkdir -p .cache
	go run ./integration/watchdog -timeout 60m -dump .cache/integration.dump -- go test -count=1 -timeout 0 ./integration/...

.PHONY: conformance
conformance: bin/runsc ## Run the behaviours of backends on each, and write docs/conformance.md
	go run ./integration/conformance spawn/process spawn/native spawn/container:root spawn/gvisor:root spawn/microvm:root spawn/wasm:root > .cache/conformance.md
	mv .cache/conformance.md docs/conformance.md

# What `make vm` runs, where, and with which flags of vmrun.
VMPACKAGES ?= $$(go list ./... | grep -Ev '^sandboxd/(integration|vm|internal|spawn/microvm)')
VMFLAGS ?=
VMTEST ?=

# A guest with what our tests need; SANDBOXD_SLOW is how much slower than usual it is where it is emulated.
VMRUN = $(CURDIR)/.cache/vmrun --smp 2 --memory 2g --disk $(CURDIR)/.cache/vmroot.img:/ --file $(CURDIR) \
	--env SANDBOXD_BINARY=$(CURDIR)/bin/sandboxd --env SANDBOXD_CONTAINER=$(CURDIR)/bin/sandboxd-container --env SANDBOXD_GUEST=1
MATRIXFLAGS ?=

.PHONY: vm
vm: .cache/vmrun .cache/vmroot.img bin/sandboxd bin/sandboxd-container bin/runsc ## Run the tests of VMPACKAGES in a guest (VMFLAGS="--kernel 6.12 --as user", VMTEST="-run X")
	go test -count=1 -p 1 -timeout 40m -exec '$(VMRUN) --env SANDBOXD_MUST_WORK --env SANDBOXD_SLOW=4 $(VMFLAGS)' $(VMTEST) $(VMPACKAGES)

.PHONY: vm-smoke
vm-smoke: .cache/vmrun bin/sandboxd bin/sandboxd-container ## Run in guests what this machine cannot show: cgroup layouts, kernels (MATRIXFLAGS)
	@MAKE='$(MAKE)' scripts/vm-smoke.sh -vmrun '$(VMRUN)' $(MATRIXFLAGS) smoke

.PHONY: test-matrix
test-matrix: .cache/vmrun .cache/vmroot.img bin/sandboxd bin/sandboxd-container bin/runsc ## Run all tests on all kernels and cgroup layouts, for hours, and write docs/vm-matrix.*
	go run ./integration/matrix -vmrun '$(VMRUN)' -markdown docs/vm-matrix.md $(MATRIXFLAGS) all

.PHONY: .cache/vmrun
.cache/vmrun:
	@mkdir -p .cache
	go build -o $@ ./integration/vmrun

.cache/vmroot.img: integration/vmroot.sh scripts/packages.txt
	@mkdir -p .cache
	integration/vmroot.sh $@

.PHONY: vuln
vuln: $(TOOLS)/.built ## Look for known vulnerabilities that the code reaches
	@scripts/vuln.sh $(TOOLS)/govulncheck

# A peer that must not be in our module: bench goes on without it.
.PHONY: bin/sandboxd-bench-grpc
bin/sandboxd-bench-grpc:
	-go build -C bench/grpc -trimpath -ldflags "-s -w" -o ../../$@ .

.PHONY: bench
bench: bin/sandboxd bin/sandboxd-bench-grpc ## Measure against the peers on this machine (BENCHFLAGS)
	bin/sandboxd bench $(BENCHFLAGS)

.PHONY: microbench
microbench: ## Run the Go benchmarks of the packages
	go test -run '^$$' -bench . -benchmem $(PACKAGES)

.PHONY: cover
cover: ## Measure which statements the packages' tests reach
	@mkdir -p .cache
	go test -count=1 -coverpkg ./... -coverprofile .cache/cover.out $(PACKAGES)
	go tool cover -html .cache/cover.out -o .cache/cover.html
	@go tool cover -func .cache/cover.out | tail -n 1
	@echo "cover: .cache/cover.html shows the lines"

.PHONY: install
install: bin/sandboxd ## Install below PREFIX, in DESTDIR
	install -D -m 755 bin/sandboxd '$(DESTDIR)$(PREFIX)/bin/sandboxd'
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/doc/sandboxd' LICENSE NOTICE THIRD_PARTY

.PHONY: prove-bare
prove-bare: ## As root: `make run` and `make test` in a fresh Debian with nothing but Go
	scripts/prove-bare.sh

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin .cache
