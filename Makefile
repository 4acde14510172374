# Every target needs Go, git and make only; `race` also needs gcc, `check-arm64` qemu. `interop`, `bench-peers` and
# `check-parity` make a Python environment outside of the repository, once, or take the one that PYTHON=… names.
SHELL := /bin/bash
GO ?= go
LINT_VERSION := 2.15.0
CACHE := $(CURDIR)/.cache
LINT := $(CACHE)/bin/golangci-lint
TEST_TIMEOUT ?= 20m
FUZZTIME ?= 10s
NUMERICS := ./compute/... ./compress/... ./optimizer/... ./model/... ./replica/...
CROSS := linux/amd64 linux/arm64 darwin/arm64 windows/amd64

# `make run` passes these on: DATA=path (a file, a folder or a glob of text) and SECONDS=n, which counts from make's
# command line only, since shells keep a variable of that name.
DATA ?=
REPEAT ?= 1
DEMO_FLAGS = $(if $(DATA),--data "$(DATA)") $(if $(filter command,$(origin SECONDS)),--seconds $(SECONDS))

.DEFAULT_GOAL := help
.PHONY: run test build lint race golden generate mutate ptxas fuzz bench bench-convergence bench-convergence-long bench-link bench-pipeline bench-billion bench-coordinator bench-people bench-rebalance netns-test check-arm64 interop check-parity bench-peers cross clean help

run: build ## build, then train a small model with a swarm on this machine (DATA=path for your own text, SECONDS=n)
	bin/dunlin demo $(DEMO_FLAGS)

test: ## go vet and every test (about five minutes on two cores)
	$(GO) vet ./...
	$(GO) test -timeout $(TEST_TIMEOUT) ./...
	cd tools/convergence && CGO_ENABLED=0 $(GO) test -mod=mod ./...

build: ## leave the binary in bin/dunlin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/dunlin ./cmd/dunlin

lint: ## golangci-lint (installed into .cache when its version differs) and the house rules
	@have=$$($(LINT) version --short 2>/dev/null || true); \
	if [ "$$have" != "$(LINT_VERSION)" ]; then \
		echo "installing golangci-lint $(LINT_VERSION) into $(CACHE)/bin"; \
		GOBIN=$(CACHE)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(LINT_VERSION); \
	fi
	$(LINT) run
	$(GO) test -count=1 ./internal/archtest

race: ## every test with the race detector and the invariant checks (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -tags invariants -timeout 40m $(or $(PKG),./...)

golden: ## rewrite golden files; look at every changed line before you commit it
	@set -eo pipefail; $(GO) list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		if grep -qsE 'flag\.Bool\("update"' "$$dir"/*_test.go; then $(GO) test -count=1 "$$pkg" -update </dev/null; fi; \
		if grep -qs 'cockroachdb/datadriven' "$$dir"/*_test.go; then $(GO) test -count=1 "$$pkg" -rewrite </dev/null; fi; \
	done

generate: ## compile the GPU kernels to PTX again (NVRTC=path of libnvrtc.so of CUDA 11.8, from Debian's libnvrtc11.2 or the wheel nvidia-cuda-nvrtc-cu11)
	$(GO) generate ./cuda/kernels

ptxas: ## assemble the GPU kernels for every kind of card, what each takes into docs/cuda-ptxas.md (PTXAS=path, from the wheel nvidia-cuda-nvcc-cu12 or Debian's nvidia-cuda-toolkit)
	@mkdir -p $(CACHE)
	$(GO) run ./tools/ptxas > $(CACHE)/ptxas.md && mv $(CACHE)/ptxas.md docs/cuda-ptxas.md

mutate: ## change the GPU kernels' PTX in MUTANTS (300) ways of each precision, drawn by MUTANT_SEED: the suite must notice 95 %, and a rule say why the others live
	MUTANTS=$(or $(MUTANTS),300) MUTANT_SEED=$(MUTANT_SEED) MUTANT_KERNEL='$(MUTANT_KERNEL)' $(GO) test -count=1 -timeout 120m -v -run TestMutants ./cuda/ptxemu

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@.ci/fuzz $(FUZZTIME)

bench: build ## micro-benchmarks of the numeric packages, a whole training step, codecs, what rounds cost a swarm
	$(GO) test -run '^$$' -bench . -benchtime 0.5s ./compute/... ./compress/... ./optimizer/... ./model/...
	bin/dunlin bench train --preset nano
	bin/dunlin bench codecs
	bin/dunlin bench swarm

bench-peers: build ## tokens a second and memory beside PyTorch's, in turns (ROUNDS=n, SHAPES="nano small gpt2", KEEP=1 adds)
	python=$$(tools/python) && "$$python" tools/pytorch/bench.py bin/dunlin out/bench-peers

check-parity: build ## train a small model with dunlin and with PyTorch: the losses must agree (TEXT=file)
	$(GO) build -o $(CACHE)/windows ./tools/pytorch
	python=$$(tools/python) && "$$python" tools/pytorch/parity.py bin/dunlin $(CACHE)/windows out/check-parity

interop: build ## send models to transformers and back and compare logits
	tools/interop/run.sh

netns-test: ## real processes in network namespaces behind slow, lossy links (Linux and root; REPEAT=n deaths of each kind, ONLY=regexp of some)
	NETNS=1 REPEAT=$(REPEAT) ONLY='$(ONLY)' $(GO) test -count=1 -timeout 60m -v -run '$(if $(ONLY),NetnsDeaths,Netns|Router)' ./internal/world ./internal/world/link

bench-link: ## what rounds, and newcomers, cost on links that just carry them (Linux and root; PRESET, RECIPE, BATCH, UP and DOWN in Mbit/s, WINDOWS, JOINS=0 for none, WINDOW in seconds)
	BENCH_LINK=1 $(GO) test -count=1 -timeout 60m -v -run 'TestLink(Efficiency|Join)' ./internal/world

bench-coordinator: ## a coordinator among HOSTS (1000) real peers for WINDOW (60) seconds, and the steps of one among 10,000 simulated ones (Linux)
	BENCH_COORDINATOR=1 HOSTS=$(HOSTS) WINDOW=$(WINDOW) $(GO) test -count=1 -timeout 60m -v -run TestCoordinatorAmongMany ./internal/world
	BENCH_COORDINATOR=1 $(GO) test -count=1 -timeout 60m -v -run TestCoordinatorSteps ./peer/core

bench-pipeline: ## two stages, 1,024 wide, on links of 100 Mbit/s and 50 ms: forecast, tokens a second and loss by codec (Linux and root; CODECS like "int8 int8/64" with a subspace of 64, TOKENS, WINDOW in seconds)
	BENCH_PIPELINE=1 $(GO) test -count=1 -timeout 60m -v -run TestPipelineThroughput ./internal/world

bench-billion: ## three inner steps of 1.0 billion parameters in one process and in four: memory and losses; outer momentum on disk (Linux, 20 GB; LAYERS, WIDTH)
	BENCH_BILLION=1 $(GO) test -count=1 -timeout 20m -v -run 'TestBillion|TestPagedMemory' ./internal/world ./folder

bench-people: build ## what people wait for and what their pages cost, each beside its bound (wants Chromium)
	BENCH_PEOPLE=1 $(GO) test -count=1 -timeout 30m -v -run 'TestPeople|TestPage$$/is_light' ./status ./cmd/dunlin

bench-rebalance: ## how full a pipeline's stages stay while peers come and go, by rule (SEEDS=n)
	REBALANCE=$(if $(filter command,$(origin SEEDS)),$(SEEDS),10) $(GO) test -count=1 -timeout 60m -v -run TestRebalanceTrace ./sim

check-arm64: ## the tests of the numeric packages as an arm64 processor computes them, emulated by qemu (qemu-user-static)
	@if ! qemu=$$(command -v qemu-aarch64-static || command -v qemu-aarch64); then \
		echo "check-arm64: skipped, for there is no qemu-aarch64; Debian has it in qemu-user-static"; exit 0; fi; \
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) vet $(NUMERICS) && \
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) test -count=1 -timeout 40m -exec "$$qemu" $(NUMERICS)

# Arms are separated by ';' and may change a recipe: ARMS='diloco;default:workers=8,momentum=0.3'.
ARMS ?= data-parallel;diloco;default;streaming-diloco;sparse-loco
SEEDS ?= 1
STEPS ?= 2592
bench-convergence: ## compare ways of training by held-out loss (ARMS='…;…' SEEDS=n STEPS=n); into out/convergence
	cd tools/convergence && CGO_ENABLED=0 $(GO) run -mod=mod . -arms '$(ARMS)' -seeds $(SEEDS) -steps $(STEPS) -out $(CURDIR)/out/convergence $(CONVERGENCE_FLAGS)

bench-convergence-long: ## the same with `micro`: 10 million tokens an arm, rounds of 30 steps, three fragments, two seeds; about two hours
	$(MAKE) bench-convergence STEPS=4883 SEEDS=2 ARMS='data-parallel;diloco:h=30,fragments=3;default:h=30,fragments=3' CONVERGENCE_FLAGS='-preset micro -parallel 2'

check-stages: build ## train in three stages and on one machine, same tokens: held-out losses (RECIPE, SEEDS="1 2 3", TOKENS=n, MODE=--synchronous); into out/stages
	sh tools/stages-check.sh

cross: ## build for every supported system without cgo, into .cache/cross
	@set -e; for system in $(CROSS); do \
		out=$(CACHE)/cross/dunlin-$${system%/*}-$${system#*/}; \
		echo "$$system"; \
		CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build -trimpath -o "$$out" ./cmd/dunlin; \
	done

clean: ## remove what the targets above leave behind
	rm -rf bin out $(CACHE)

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-23s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
