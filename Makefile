# make run     the main job: capture on FreeBSD, replay through the model kernel elsewhere
# make check   what to run while working: a minute or two, with nothing cached a few more
# make test    everything that runs on this machine, and on every FreeBSD kernel there is
# make help    the rest

GO        ?= go
PKGS      ?= ./...
VMTEST    := bin/vmtest
ELSEWHERE_BIN := bin/elsewhere
VMFLAGS   ?=
FUZZTIME  ?= 10m
SOAK      ?= 10m
PACKETS   ?= 50000000
SEEDS     ?= 5000
EXPRESSIONS ?= 20000
# The three layouts of structs: programs and tests are linked for them.
LAYOUTS   := amd64 386 arm
# The target cross type-checks and vets these: FreeBSD on every processor, one unix that is neither
# Linux nor FreeBSD, and one system that is no unix.
HERE      := $(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH)
ELSEWHERE := $(patsubst %,freebsd/%,amd64 386 arm64 riscv64) darwin/arm64 windows/amd64

# The FreeBSD tests run on the kernel that VMTEST_KERNEL names. If it names none, they run on every
# kernel in the user's cache folder that is called kernel-ARCH or kernel-ARCH-NAME. Kernels for
# measurements (-fast) are left out. VMFLAGS may name something else to boot: --release 15.1,
# --image FILE.
KERNELCACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vmtest
INCACHE := $(notdir $(wildcard $(KERNELCACHE)/kernel-amd64 $(KERNELCACHE)/kernel-amd64-* $(KERNELCACHE)/kernel-arm64* $(KERNELCACHE)/kernel-riscv64*))
NAMED   := $(VMTEST_KERNEL)$(VMTEST_IMAGE)$(findstring --release,$(VMFLAGS))$(findstring --image,$(VMFLAGS))
qemu     = $(shell command -v qemu-system-$(1))
WANTED  := $(if $(NAMED),,$(filter-out %-fast,$(INCACHE)))
AMD64   := $(if $(call qemu,x86_64),$(filter kernel-amd64%,$(WANTED)))
ARM64   := $(if $(call qemu,aarch64),$(filter kernel-arm64%,$(WANTED)))
RISCV64 := $(if $(call qemu,riscv64),$(filter kernel-riscv64%,$(WANTED)))
OTHERS  := $(ARM64) $(RISCV64)
LEFTOUT := $(filter-out $(AMD64) $(OTHERS),$(WANTED))
HAVE_VM := $(strip $(if $(NAMED),$(call qemu,x86_64),$(AMD64) $(OTHERS)))
# The one that the runner's own tests and the benchmarks boot.
KERNEL  := $(or $(VMTEST_KERNEL),$(wildcard $(KERNELCACHE)/kernel-amd64))

.PHONY: help run check test announce format vet staticcheck staticcheck-all short unit race \
  cross elsewhere times coverage maybe-vmtest vmtest vmtest-stall vm-runner vmtest-speed vagrant-test \
  barriers fuzz soak soak-model filters random reliability rules matrix bench bench-vm roundtrip \
  clients clients-build \
  performance shots licences release man clean

help:
	@sed -n 's/^# make/make/p' Makefile
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /make \1	/' | expand -t 20

run: ## capture (IFACE=em0 on FreeBSD) or replay a sample, to out/capture.pcapng
	@mkdir -p out
ifeq ($(shell uname -s),FreeBSD)
	$(GO) run ./cmd/bpfctl capture $(if $(IFACE),-i $(IFACE),-i lo0) -w out/capture.pcapng --duration 10s
else
	$(GO) run ./cmd/bpfctl capture --replay cmd/bpfctl/testdata/sample.pcapng -w out/capture.pcapng
endif

check: format staticcheck short ## gofmt, go vet, staticcheck, short tests: run it while working

test: announce format vet unit race cross maybe-vmtest

announce:
	@echo "make test: First gofmt and go vet run."
	@echo "make test: Then the tests run here, those of several goroutines under the race detector."
	@echo "make test: Then it links FreeBSD's tests and programs for $(LAYOUTS)."
	@echo "make test: It vets everything for $(ELSEWHERE)."
	@echo "make test: All this takes about 10 minutes on two idle processors with nothing cached."
	@echo "make test: make times measures it."
	@echo "make test: $(if $(HAVE_VM),Then the FreeBSD tests$(foreach k,$(WANTED), on $(k)): about 10 minutes for each amd64 kernel.,There is no FreeBSD kernel$(if $(WANTED), that QEMU is here for): those tests will not run.)"

format:
	@f=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$f" || { echo "gofmt would change: $$f"; exit 1; }

# Nobody debugs what these targets build. Without debug information, without threads and without
# collecting garbage, the compiler and the linker need much less CPU. Nobody runs what
# cross-386 and cross-arm link, so the compiler does not optimise it. Tests build programs for amd64
# too, with the same flags as cross-amd64. Measurements and the tests in guests are built as
# everybody builds.
#
# No test spends its time in the packages of COLD. So the compiler does not optimise them for tests,
# and the race detector does not look at them.
COLD := crypto/... net/http/... html/... text/... mime/... debug/... archive/... vendor/... \
  math/big encoding/asn1 encoding/xml encoding/gob image/... internal/fuzz \
  $(addprefix github.com/,gopacket/... prometheus/... spf13/... rogpeppe/... BurntSushi/...) \
  google.golang.org/... go.yaml.in/... golang.org/x/text/... golang.org/x/mod/...
USERSFLAGS := $(shell $(GO) env GOFLAGS)
WITHOUT_GC = env GOGC=off GOMEMLIMIT=1GiB
FRUGAL = -ldflags=-s '-toolexec=$(WITHOUT_GC) GOMAXPROCS=1'
staticcheck short unit race: export GOGC = 400
vet staticcheck short unit race elsewhere cross-amd64: export GOFLAGS = $(USERSFLAGS) $(FRUGAL) \
  -gcflags=all=-dwarf=false $(foreach p,$(COLD),'-gcflags=$p=-dwarf=false -N -l $(UNRACED)')
race: UNRACED = -race=false
cross-386 cross-arm: \
  export GOFLAGS = $(USERSFLAGS) '-gcflags=all=-dwarf=false -N -l' $(FRUGAL)

# go vet would compile the library, and look for facts in all of it.
vet: $(ELSEWHERE_BIN)
	$(WITHOUT_GC) $(ELSEWHERE_BIN) $(HERE)

# Runs go vet's analyzers and those of staticcheck. The command staticcheck itself analyses every
# function of the standard library first. With nothing cached, that costs more than all tests.
STATICCHECK := bin/staticcheck
staticcheck: $(STATICCHECK)
	$(WITHOUT_GC) $(STATICCHECK) $(HERE)
# The test shows that the analyzers run.
$(STATICCHECK): FORCE
	$(TEST) -tags staticcheck -run StaticcheckRuns ./internal/elsewhere
	$(GO) build -tags staticcheck -o $@ ./internal/elsewhere

# With GOOS in the environment go tool would start a FreeBSD program here, and exit with 0.
# It also finds unused names (U1000), because it knows both systems' files.
staticcheck-all: ## staticcheck itself, for Linux and FreeBSD, unused names too: CI on GitHub runs it
	printf 'host:\nfreebsd: GOOS=freebsd\n' | $(GO) tool staticcheck -matrix ./...

TEST = $(GO) test -vet=off -short

short:
	$(TEST) -timeout 10m $(PKGS)

# The race detector runs on the packages that start goroutines, and on those that share memory with
# the model's kernel. The rules share the model too, and make soak races them.
RACE := . ./bpf/... ./gopacketbpf ./internal/capture/... ./internal/interruptible \
  ./internal/sender ./packet ./sysctl/... ./vmtest ./vmtest/agent/... \
  $(addprefix ./vmtest/internal/,flock qemu server standin wire)
unit: ## the tests that run here without the race detector
	$(TEST) -timeout 20m $$($(GO) list $(PKGS) | grep -vxF "$$($(GO) list $(RACE))")

race: ## the tests that run here under the race detector
	$(TEST) -race -timeout 20m $(RACE)

# Links FreeBSD's tests and programs for each layout of structs, and vets everything
# for other systems.
cross: $(addprefix cross-,$(LAYOUTS)) elsewhere ## link for each layout of structs; vet the rest

# The target cross links bpfctl, and the tests of the packages that ask a kernel and have structs of
# its layout. It links the other tests once.
LINKED       := . ./bpf ./conformance ./sysctl
LINKED-amd64 := ./bpf/fanout ./bpf/merge ./cmd/bpfctl ./cmd/vmtest ./faults ./gopacketbpf \
  ./internal/lab ./internal/sender ./packet ./vmtest/agent
$(addprefix cross-,$(LAYOUTS)): cross-%:
	GOOS=freebsd GOARCH=$* $(GO) build -o /dev/null ./cmd/bpfctl
	GOOS=freebsd GOARCH=$* $(GO) test -vet=off -exec=true $(LINKED) $(LINKED-$*) >/dev/null

elsewhere: $(ELSEWHERE_BIN)
	$(WITHOUT_GC) $(ELSEWHERE_BIN) $(ELSEWHERE)
	cd bench && $(WITHOUT_GC) $(CURDIR)/$(ELSEWHERE_BIN) freebsd/amd64
$(ELSEWHERE_BIN): FORCE
	$(GO) build -o $@ ./internal/elsewhere

times: ## docs/times.md: the CPU of each part of make check and make test (half an hour)
	@mkdir -p out
	.ci/times >out/times.md
	mv out/times.md docs/times.md

coverage: ## how many statements of the core the tests run that need no kernel
	@mkdir -p out
	@$(GO) test -vet=off -short -coverprofile=out/cover -coverpkg=.,./bpf,./filter,./sysctl \
	  . ./bpf/... ./filter ./sysctl/... ./conformance ./faults >/dev/null
	@awk 'FNR > 1 { split($$1, at, ":"); sub("/[^/]*$$", "", at[1]); of[$$1] = at[1]; n[$$1] = $$2; if ($$3) hit[$$1] = 1 } \
	  END { for (b in n) { all[of[b]] += n[b]; if (b in hit) run[of[b]] += n[b] } \
	  for (p in all) printf "%s: %.1f%% of %d statements\n", p, 100 * run[p] / all[p], all[p] }' out/cover | sort
# The last lines of make test say which suites ran, on which kernels, and how to run the rest.
maybe-vmtest:
ifneq ($(HAVE_VM),)
	$(MAKE) --no-print-directory vmtest
endif
	@echo "make test: passed here: gofmt, go vet and the short tests"
	@echo "make test: passed here under the race detector: the tests of $(RACE)"
	@echo "make test: passed here: links for freebsd on $(LAYOUTS); vet for $(ELSEWHERE)"
ifneq ($(HAVE_VM),)
	@echo "make test: passed on FreeBSD: see make vmtest above$(if $(LEFTOUT), and what did NOT run there)"
else
	@echo "make test: the FreeBSD tests did NOT run: $(if $(WANTED),there is no QEMU for $(WANTED),there is no kernel)."
	@echo "make test: to run them, put a FreeBSD/amd64 kernel at ~/.cache/vmtest/kernel-amd64,"
	@echo "make test: or name it in VMTEST_KERNEL. Install qemu-system-x86. Then run make vmtest."
endif
	@echo "make test: NOT run: the analyzers of staticcheck. make check runs them for this system."
	@echo "make test: make staticcheck-all runs staticcheck itself, for FreeBSD too."
	@echo "make test: the rest: make soak (every test in its long form, hours), make fuzz,"
	@echo "make test: make bench bench-vm"

$(VMTEST): FORCE
	$(GO) build -o $@ ./cmd/vmtest
FORCE:

# Packages whose tests ask a kernel. What runs on the model or on files alone runs on the host.
VMPKGS     ?= . ./bpf/fanout ./bpf/merge ./conformance ./faults ./sysctl ./internal/lab ./internal/sender ./vmtest/agent
# Those of them that ask the kernel for zero-copy mode, or for what stands in for it.
KERNELPKGS  = . ./bpf/fanout ./bpf/merge ./conformance ./faults ./sysctl
# The tests of the reader, and of what stands on it, that ask a kernel.
READER      = -run Kernel ./bpf
ONREADER    = -run Kernel ./gopacketbpf ./packet
# Programs that others wrote, on package packet.
CLIENTS     = -modfile ../out/clients/go.mod -overlay ../out/clients/overlay.json .
# $(1) is a kernel's name, or "named" if VMTEST_KERNEL, VMTEST_IMAGE or VMFLAGS name a kernel. The
# value of net.bpf.zerocopy_enable and the closing quote follow.
ONKERNEL = GOOS=freebsd $(GO) test -p 1 -count=1 -short -timeout 15m -exec "$(CURDIR)/$(VMTEST) $(if $(filter-out named,$(1)),--kernel $(1)) $(VMFLAGS) --sysctl net.bpf.zerocopy_enable

# What of bpfctl has to do with a kernel; the rest is the same everywhere, and slow under emulation.
BPFCTL = 'Kernel|Persist|StatsReset|Colours|Watch|Progress'

# On the processors beside amd64: the binding, the rules and the faults, and the reader.
CORE = . ./conformance ./faults

# Two guests run at a time, because tests wait more than they compute. A tunable that no kernel
# knows keeps the second guest apart from the first.
VMJOBS ?= 2
SECOND  = --tunable vmtest.second=1

LANES = $(if $(NAMED),allowed/named forbidden/named 386/named) $(foreach k,$(AMD64),allowed/$(k) forbidden/$(k) 386/$(k)) $(foreach k,$(OTHERS),core/$(k)) $(foreach k,$(ARM64),arm/$(k))
RUNNER = $(if $(KERNEL),vm-runner)

# Runs with zero-copy allowed, forbidden, guarded, and as 32-bit programs.
vmtest: $(VMTEST) ## the FreeBSD tests on each kernel: zero-copy allowed, forbidden, guarded; 386, arm
	@test -n "$(HAVE_VM)" || { echo "make vmtest: no FreeBSD kernel or no QEMU: see vmtest doctor"; $(VMTEST) doctor; exit 1; }
	$(VMTEST) kernels
	+@$(MAKE) --no-print-directory -j$(VMJOBS) --output-sync=line $(addprefix vm-,$(LANES)) $(RUNNER)
	@for k in $(AMD64) $(if $(NAMED),"what was named ($(strip $(VMTEST_KERNEL) $(VMTEST_IMAGE) $(VMFLAGS)))"); do echo "make vmtest: passed on $$k: $(VMPKGS) ./bpf ./gopacketbpf ./packet ./clients ./filter and bpfctl with zero-copy allowed, $(KERNELPKGS) ./bpf ./gopacketbpf ./packet and bpfctl with it forbidden, ./bpf guarded, . ./bpf ./conformance as 386"; done
	@for k in $(OTHERS); do echo "make vmtest: passed on $$k: $(CORE) ./bpf in short form"; done
	@for k in $(ARM64); do echo "make vmtest: passed on $$k: . ./bpf as arm"; done
	@$(if $(RUNNER),echo "make vmtest: passed on $(notdir $(KERNEL)): the runner's own tests")
	@for k in $(LEFTOUT); do echo "make vmtest: NOT RUN on $$k: there is no QEMU for it"; done

vm-allowed/%: clients-build
	$(call ONKERNEL,$*)=1" $(VMPKGS)
	$(call ONKERNEL,$*)=1" $(READER)
	$(call ONKERNEL,$*)=1" $(ONREADER)
	$(call ONKERNEL,$*)=1" -run Kernel ./filter
	$(call ONKERNEL,$*)=1" -run $(BPFCTL) ./cmd/bpfctl
	ZBUF_GUARD=1 $(call ONKERNEL,$*)=1" -run 'Kernel(Stream|Stuck|Guard|Filter|Fork|Numbered)' ./bpf
	cd clients && $(call ONKERNEL,$*)=1" $(CLIENTS)

vm-forbidden/%:
	$(call ONKERNEL,$*)=0 $(SECOND)" $(KERNELPKGS)
	$(call ONKERNEL,$*)=0 $(SECOND)" $(READER)
	$(call ONKERNEL,$*)=0 $(SECOND)" $(ONREADER)
	$(call ONKERNEL,$*)=0 $(SECOND)" -run $(BPFCTL) ./cmd/bpfctl

vm-386/%:
	GOARCH=386 $(call ONKERNEL,$*)=1 $(SECOND)" . ./conformance
	GOARCH=386 $(call ONKERNEL,$*)=1 $(SECOND)" $(READER)

vm-core/%:
	GOARCH=$(firstword $(subst -, ,$(patsubst kernel-%,%,$*))) $(call ONKERNEL,$*)=1" $(CORE)
	GOARCH=$(firstword $(subst -, ,$(patsubst kernel-%,%,$*))) $(call ONKERNEL,$*)=1" $(READER)

# 32-bit programs of arm. The rules of 32-bit processes are those of 386.
vm-arm/%:
	GOARCH=arm $(call ONKERNEL,$*)=1 $(SECOND)" -run Kernel . ./bpf

# The client of DHCP lacks a constant on FreeBSD. The tests show that nothing else differs.
clients-build:
	cd clients && $(GO) test -count=1 ./prepare && $(GO) run ./prepare ../out/clients

clients: $(VMTEST) clients-build ## programs that others wrote, on package packet, on each amd64 kernel
	@test -n "$(NAMED)$(AMD64)" || { echo "make clients: no FreeBSD kernel or no QEMU: see vmtest doctor"; exit 1; }
	@set -e; $(foreach k,$(or $(AMD64),named),(set -x; cd clients; $(call ONKERNEL,$(k))=1" $(CLIENTS));)

# The guest stands still again and again, as on a host that has no time for it.
STALL ?= 800ms
STALLS ?= 3
vmtest-stall: $(VMTEST) ## the kernel tests while the guest stands still now and then: STALL, STALLS
	@test -n "$(SOAKON)" || { echo "make vmtest-stall: no FreeBSD kernel or no QEMU: see vmtest doctor"; exit 1; }
	@set -e; $(foreach k,$(SOAKON),(set -x; export GOARCH=$(call archof,$(k)); \
	  $(call ONKERNEL,$(k))=1 --stall $(STALL)" -count=$(STALLS) -timeout 2h $(CORE); \
	  $(call ONKERNEL,$(k))=1 --stall $(STALL)" -count=$(STALLS) -timeout 2h $(READER));)

vm-runner:
	$(GO) test -timeout 30m ./cmd/vmtest

# Measures how fast vmtest is on every kernel there is, and checks it.
vmtest-speed: ## the speed of vmtest, into docs/vmtest.md; wants an idle machine
	VMTEST_SPEED=1 VMTEST_SPEED_PAGE=$(CURDIR)/docs/vmtest.md \
	  $(GO) test -count=1 -timeout 30m -v -run 'TestSpeed$$' ./cmd/vmtest

# The box runs in VirtualBox or VMware.
vagrant-test: ## the tests on an official FreeBSD box (FREEBSD=14.4 for another release)
	@command -v vagrant >/dev/null || { echo "make vagrant-test: vagrant is missing: https://developer.hashicorp.com/vagrant/install"; exit 1; }
	vagrant validate
	vagrant up
	vagrant rsync
	vagrant ssh -c 'cd /zbuf && sudo env "PATH=$$PATH" sysctl net.bpf.zerocopy_enable=1 && sudo env "PATH=$$PATH" go test -timeout 20m ./...'
	vagrant ssh -c 'cd /zbuf && sudo env "PATH=$$PATH" sysctl net.bpf.zerocopy_enable=0 && sudo env "PATH=$$PATH" go test -timeout 20m ./bpf ./sysctl'
	@echo "make vagrant-test: passed; vagrant halt stops the machine, vagrant destroy removes it"

barriers: ## disassemble the acquire and release of the shared header on arm64, riscv64 and arm
	$(GO) test -count=1 -v -run Barriers .

RELIABILITY := bin/reliability
$(RELIABILITY): FORCE
	$(GO) build -o $@ ./internal/reliability

# What is recorded there becomes docs/reliability.md.
RECORD = $(RELIABILITY) record out/reliability

fuzz: $(RELIABILITY) ## every fuzz target for FUZZTIME (10m)
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(RECORD)/$$(basename $$p)-$$f.log \
	      $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$p; done; done

LONG = $(GO) test -json -count=1 -timeout 0
# $(1) is what is recorded, $(2) a kernel's name, or named for what VMTEST_KERNEL, VMTEST_IMAGE or
# VMFLAGS name, and $(3) are more flags of vmtest.
LONGON = GOOS=freebsd GOARCH=$(call archof,$(2)) $(RECORD)/kernel-$(1)-$(2).json $(LONG) \
  -exec "$(CURDIR)/$(VMTEST) $(3) $(if $(filter-out named,$(2)),--kernel $(2)) $(VMFLAGS) \
  --sysctl net.bpf.zerocopy_enable=1"
archof = $(if $(filter named,$(1)),amd64,$(firstword $(subst -, ,$(patsubst kernel-%,%,$(1)))))
# A storm takes two processors; the test that counts it needs others.
INSTORM = --smp 4

# The faults take ten minutes on the processors beside amd64 with a tenth of their counts.
PART = $(if $(filter amd64,$(call archof,$(1))),,ZBUF_PART=10)

SOAKON = $(if $(NAMED),named,$(AMD64) $(OTHERS))
# PACKETS is for the model (50 million), SOAK is for each long form on a kernel (10m).
soak: soak-model $(addprefix soak-kernel/,$(SOAKON)) ## the long forms (hours): PACKETS, SOAK (10m)

soak-model: $(RELIABILITY)
	$(GO) test -count=1 -timeout 0 ./filter ./internal/... ./cmd/bpfctl
	$(GO) test -count=1 -timeout 0 -race $(RACE)
	ZBUF_PACKETS=$(PACKETS) $(RECORD)/model-accounting.json $(LONG) -race -run 'TestAccounting$$' ./bpf
	$(RECORD)/model-pauses.json $(LONG) -race -run 'TestNumberedPacketsWithPauses$$' ./bpf
	ZBUF_SEEDS=$(SEEDS) $(RECORD)/model-random-use.json $(LONG) -race -run 'TestRandomUse$$' ./bpf
	ZBUF_EXPRESSIONS=$(EXPRESSIONS) $(RECORD)/filter-judges.json $(LONG) \
	  -run 'TestSameVerdictsAs(Libpcap|Oracle)' ./filter
	$(RECORD)/model-table.json $(LONG) -race ./conformance

soak-kernel/%: $(VMTEST) $(RELIABILITY) soak-random/%
	$(call LONGON,table,$*) -run 'TestConformance$$' ./conformance
	ZBUF_SOAK=$(SOAK) $(call LONGON,overload,$*,$(INSTORM)) -run 'TestKernelOverload$$' ./bpf
	ZBUF_SOAK=$(SOAK) $(call LONGON,pauses,$*) -run 'TestKernelNumberedPacketsWithPauses$$' ./bpf
	ZBUF_SOAK=$(SOAK) $(call LONGON,rotation,$*) -run 'TestKernelRotationUnderLoad$$' ./cmd/bpfctl
	ZBUF_SOAK=$(SOAK) $(call LONGON,rules,$*,$(INSTORM)) \
	  -run 'TestConformance$$/(tail|assignment|overload)' ./conformance
	$(call PART,$*) ZBUF_SOAK=$(SOAK) $(call LONGON,faults,$*) ./faults
	$(if $(filter amd64,$(call archof,$*)),GOOS=freebsd GOARCH=386 $(RECORD)/kernel-table-386-$*.json $(LONG) \
	  -exec "$(CURDIR)/$(VMTEST) $(if $(filter-out named,$*),--kernel $*) $(VMFLAGS) \
	  --sysctl net.bpf.zerocopy_enable=1" -run 'TestConformance$$' ./conformance)

# The random tests alone, for make soak-random/kernel-amd64-14.
STEPS = $(if $(filter amd64,$(call archof,$(1))),100000,20000)
.PRECIOUS: soak-random/% random/%
soak-random/%: random/%
	ZBUF_SOAK=$(SOAK) $(call LONGON,random-use,$*) -run 'TestKernelRandomUse$$' ./bpf

random/%: $(VMTEST) $(RELIABILITY)
	ZBUF_STEPS=$(call STEPS,$*) $(call LONGON,random,$*) -run 'TestRandomSequences$$' ./conformance

# Compares each kernel with its own model: 100,000 operations on amd64, 20,000 on the others.
random: $(addprefix random/,$(SOAKON)) ## random operations on each kernel, against its model
	@test -n "$(SOAKON)" || { echo "make random: no FreeBSD kernel or no QEMU: see vmtest doctor"; exit 1; }

# The page is made from what make soak and make fuzz have left in out/reliability. Other rows stay
# as they are.
reliability: $(RELIABILITY) ## docs/reliability.md, from out/reliability
	$(RELIABILITY) page out/reliability docs/reliability.md >out/reliability.md
	mv out/reliability.md docs/reliability.md

ALLOWEDON = -exec "$(CURDIR)/$(VMTEST) --kernel $(1) $(VMFLAGS) --sysctl net.bpf.zerocopy_enable=1"
RULES = $(LONG) -short -run 'TestConformance$$' $(call ALLOWEDON,$(1)) ./conformance

# Also runs the table as 386 programs, on the kernels that run those.
rules: $(VMTEST) $(RELIABILITY) ## the table of rules on every kernel there is, for make matrix
	@test -n "$(AMD64)$(OTHERS)" || { echo "make rules: no FreeBSD kernel or no QEMU: see vmtest doctor"; exit 1; }
	@set -e; $(foreach k,$(AMD64) $(OTHERS),GOOS=freebsd GOARCH=$(call archof,$(k)) \
	  $(RECORD)/rules-$(k).json $(call RULES,$(k));)
	@set -e; $(foreach k,$(AMD64),GOOS=freebsd GOARCH=386 \
	  $(RECORD)/rules-$(k)-386.json $(call RULES,$(k));)

# The page is made from what make rules has left in out/reliability.
matrix: $(RELIABILITY) ## docs/kernels.md and the kernels in README.md, from make rules
	$(RELIABILITY) matrix conformance out/reliability docs/kernels.md README.md

# The first line of each result.
COMMIT = echo "commit: $$(git describe --always --dirty)"

# Two milliseconds for each loop in each language make one turn. The file is named after the
# processor, so the page keeps the runs of others.
WALK_TURNS ?= 50x
.PHONY: bench-walk
bench-walk: ## the walk beside loops in C on this processor, into out/bench
	@mkdir -p out/bench
	($(COMMIT) && $(GO) test -count=1 -run '^$$' -bench Walk -benchtime $(WALK_TURNS) ./bpf) >out/walk.txt || { cat out/walk.txt; exit 1; }
	@grep -q ^processor: out/walk.txt || { echo "bench-walk: neither gcc nor clang is there"; exit 1; }
	mv out/walk.txt "out/bench/walk-$$(sed -n 's/^processor: //p' out/walk.txt | tr -cs 'A-Za-z0-9\n' -).txt"

# The walk, each way to read, and the fan-out on the model.
bench: bench-walk ## the measurements that need no kernel, into out/bench
	($(COMMIT) && $(GO) test -count=1 -run '^$$' -bench Read -benchtime 100x ./bpf) >out/bench/read.txt || { cat out/bench/read.txt; exit 1; }
	($(COMMIT) && $(GO) test -count=1 -run '^$$' -bench Read -benchtime 100x ./gopacketbpf) >out/bench/gopacket.txt || { cat out/bench/gopacket.txt; exit 1; }
	(cd bench && $(COMMIT) && $(GO) test -count=1 -run '^$$' -bench . -benchtime 50x ./fanout) >out/bench/fanout-model.txt || { cat out/bench/fanout-model.txt; exit 1; }
	@grep -h ^Benchmark $(addprefix out/bench/,walk-*.txt read.txt gopacket.txt fanout-model.txt)

# Measurements want a kernel without INVARIANTS, and 1 ms ticks.
BENCH_KERNEL ?= $(or $(VMTEST_BENCH_KERNEL),$(wildcard $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vmtest/kernel-amd64-fast),$(KERNEL))
BENCH_TIME   ?= 1x
# One turn of the fan-out is a few milliseconds.
BENCH_TIME_fanout ?= 60x
BENCH        ?= .
BENCH_PKGS   ?= $(filter-out report wakeup many,$(sort $(notdir $(patsubst %/,%,$(dir $(wildcard bench/*/*_test.go))))))
BENCH_VM     := $(CURDIR)/$(VMTEST) --no-reuse --kernel $(BENCH_KERNEL) --tunable kern.hz=1000 --sysctl net.bpf.zerocopy_enable=1
# The clock of the guest counts instructions, so times do not depend on the host. This is no use
# for measurements in which processors work at once. On one processor too few packets come to show
# what a further reader or a larger buffer changes. The kernel gathers entropy ten times a second,
# which would stop the one processor for half a millisecond each time, so that is off.
BENCH_COUNT  ?= --icount --smp 1 --sysctl kern.timecounter.hardware=TSC --sysctl kern.random.harvest.mask=0
BENCH_EXEC    = $(if $(filter FreeBSD,$(shell uname -s)),,-exec "$(BENCH_VM) $(if $(filter contest,$(1)),$(BENCH_COUNT))")

# The contestants in C, and the one through cgo. On FreeBSD the base system's compiler and libpcap
# build them. Elsewhere ZBUF_SYSROOT names a folder with FreeBSD's headers and static libraries
# (usr/include, usr/lib), libpcap too. Without it the page says that they did not run.
PROGRAMS     := bench/contest/testdata/programs
BSDTARGET     = $(or $(ZBUF_TARGET),x86_64-unknown-freebsd14)
BSDCC         = $(if $(ZBUF_SYSROOT),clang --target=$(BSDTARGET) --sysroot=$(ZBUF_SYSROOT) \
  -fuse-ld=lld -Wno-unused-command-line-argument,cc)
BSDSTATIC     = $(if $(ZBUF_SYSROOT),-static)
.PHONY: bench-programs
bench-programs: ## the contestants in C and through cgo; elsewhere than on FreeBSD by ZBUF_SYSROOT
	@rm -rf $(PROGRAMS) && mkdir -p $(PROGRAMS)
ifneq ($(filter FreeBSD,$(shell uname -s))$(ZBUF_SYSROOT),)
	$(BSDCC) -O2 -Wall -Wextra $(BSDSTATIC) -o $(PROGRAMS)/contest \
	  bench/internal/contestant/c/contest.c -lpcap
	$(BSDCC) -O2 -Wall -Wextra $(BSDSTATIC) -o $(PROGRAMS)/beside \
	  bench/internal/contestant/c/beside.c -lpcap -lpthread
	cd bench && GOOS=freebsd CGO_ENABLED=1 CC="$(BSDCC)" $(GO) build -tags netgo,osusergo \
	  $(if $(ZBUF_SYSROOT),-ldflags '-linkmode external -extldflags -static') \
	  -o $(CURDIR)/$(PROGRAMS)/cgo ./internal/contestant/cgo
else
	@echo "bench: libpcap's contestants will NOT run:" \
	  "ZBUF_SYSROOT names no headers and libraries of FreeBSD"
endif

define BENCH_ONE
	@echo "bench/$(1): into out/bench/$(1).txt"
	@(cd bench && $(COMMIT) && GOOS=freebsd $(GO) test -count=1 -timeout 180m -run '^$$' -bench '$(BENCH)' -benchtime $(or $(BENCH_TIME_$(1)),$(BENCH_TIME)) $(BENCH_EXEC) ./$(1)) \
	  >out/bench/$(1).txt 2>&1 || { cat out/bench/$(1).txt; exit 1; }
	@grep ^Benchmark out/bench/$(1).txt

endef

bench-vm: $(VMTEST) bench-programs ## all measurements, into out/bench: in a VM, or on FreeBSD
	@mkdir -p out/bench
	$(foreach p,$(BENCH_PKGS),$(call BENCH_ONE,$(p)))

# What zbuf and libpcap do in the same situation. Any kernel with zero-copy will do.
BESIDE_KERNEL ?= $(or $(wildcard $(KERNELCACHE)/kernel-amd64-14),$(KERNEL))
.PHONY: beside
beside: $(VMTEST) bench-programs ## docs/beside-libpcap.md: what libpcap does in the same situations
	@mkdir -p out
	cd bench && GOOS=freebsd $(GO) test -count=1 -timeout 20m -v -run 'TestBeside$$' \
	  $(if $(filter FreeBSD,$(shell uname -s)),,$(call ALLOWEDON,$(BESIDE_KERNEL))) ./contest \
	  >../out/beside.txt || { cat ../out/beside.txt; exit 1; }
	awk '/^<!-- table -->/ { print; while ((getline line < "out/beside.txt") > 0) if (line ~ /^\| /) print line; skip = 1 } \
	  /^<!-- end of table -->/ { skip = 0 } !skip' docs/beside-libpcap.md >out/beside.md
	mv out/beside.md docs/beside-libpcap.md

# BENCH_KERNEL names a kernel whose bpf has EVFILT_WRITE: FreeBSD 14.
.PHONY: wake-up
wake-up: $(VMTEST) ## docs/wake-up.md: what a wake-up of each reader costs
	@mkdir -p out
	cd bench && GOOS=freebsd $(GO) test -count=1 -timeout 40m -v -run 'TestWakeUps$$' \
	  $(if $(filter FreeBSD,$(shell uname -s)),,-exec "$(BENCH_VM) $(BENCH_COUNT)") ./wakeup \
	  >../out/wakeup.txt || { cat ../out/wakeup.txt; exit 1; }
	awk '/^<!-- table -->/ { print; while ((getline line < "out/wakeup.txt") > 0) \
	  if (line ~ /^\| /) print line; skip = 1 } \
	  /^<!-- end of table -->/ { skip = 0 } !skip' docs/wake-up.md >out/wake-up.md
	mv out/wake-up.md docs/wake-up.md

# These count on a 14 kernel and on 12.1, whose readers wait in other ways, or on FreeBSD itself.
COUNT_KERNELS ?= $(or $(wildcard $(addprefix $(KERNELCACHE)/,kernel-amd64-14-fast kernel-amd64-fast)),$(BENCH_KERNEL))
COUNTED_ON     = $(if $(filter FreeBSD,$(shell uname -s)),here,$(COUNT_KERNELS))
# $(1) is a folder, $(2) a package in it, $(3) a test and $(4) the name of the table. The table of each
# kernel goes to out/, and all of them between two lines of $(5). Only the first has its head.
define COUNTED
	@mkdir -p out && : >out/$(4).table
	@set -e; from=1; for k in $(COUNTED_ON); do echo "$(3): $$k"; \
	  (cd $(1) && GOOS=freebsd $(GO) test -count=1 -timeout 60m -v -run '$(3)$$' \
	    $(if $(filter here,$(COUNTED_ON)),,-exec "$(subst $(BENCH_KERNEL),$$k,$(BENCH_VM)) $(BENCH_COUNT)") $(2)) \
	    >out/$(4).txt || { cat out/$(4).txt; exit 1; }; \
	  grep '^| ' out/$(4).txt | tail -n +$$from >>out/$(4).table; from=3; done
	awk '/^<!-- $(4) -->/ { print; while ((getline line < "out/$(4).table") > 0) print line; skip = 1 } \
	  /^<!-- end of $(4) -->/ { skip = 0 } !skip' $(5) >out/$(4).md
	mv out/$(4).md $(5)

endef

.PHONY: wake-up-causes scale
wake-up-causes: $(VMTEST) ## docs/wake-up.md: why the process of a reader wakes up
	$(call COUNTED,bench,./wakeup,TestCauses,causes,docs/wake-up.md)

scale: $(VMTEST) ## docs/scale.md: what many readers cost, and a capture of 64 interfaces
	$(call COUNTED,bench,./many,TestMany,many,docs/scale.md)
	$(call COUNTED,.,./cmd/bpfctl,TestKernelSixtyFourInterfaces,capture,docs/scale.md)

# What decides which mode a Conn of package packet takes by itself.
roundtrip: $(VMTEST) ## question and answer over package packet: zero-copy beside read(2)
	GOOS=freebsd $(GO) test -count=1 -timeout 20m -run '^$$' -bench KernelRoundTrip -benchtime 1000x \
	  $(if $(filter FreeBSD,$(shell uname -s)),,-exec "$(BENCH_VM) $(BENCH_COUNT)") ./packet

FILTERS := out/filters
# The page says what the judges of package filter say.
filters: $(VMTEST) ## docs/filter-judges.md, from here and from each amd64 kernel
	@mkdir -p $(FILTERS)
	$(GO) test -count=1 -v -run 'SameVerdicts|Corpus|Instructions' ./filter >$(FILTERS)/host.txt || \
	  { cat $(FILTERS)/host.txt; exit 1; }
	$(GO) test -count=1 -v -run 'TcpdumpPicks' ./cmd/bpfctl >$(FILTERS)/replay.txt || \
	  { cat $(FILTERS)/replay.txt; exit 1; }
	$(GO) test -count=1 -run '^$$' -bench . -benchmem ./filter >$(FILTERS)/bench.txt || \
	  { cat $(FILTERS)/bench.txt; exit 1; }
	@set -e; for k in $(AMD64); do echo "filters: $$k"; \
	  GOOS=freebsd $(GO) test -count=1 -short -v -run Kernel -exec "$(CURDIR)/$(VMTEST) --kernel $$k" \
	  ./filter >$(FILTERS)/$$k.txt || { cat $(FILTERS)/$$k.txt; exit 1; }; done
	$(GO) run ./internal/filterpage $(FILTERS) >docs/filter-judges.md

performance: ## fill in docs/performance.md from the results in out/bench; the rest stays
	cd bench && $(GO) run ./report -in ../out/bench -doc ../docs/performance.md -plots ../docs/performance \
	  -short ../README.md

bin/bpfctl: FORCE
	$(GO) build -o $@ ./cmd/bpfctl

shots: bin/bpfctl ## take the pictures of bpfctl in documents anew (on the model; any unix)
	PATH="$(CURDIR)/bin:$$PATH" $(GO) run ./internal/termshot/intofile README.md
	PATH="$(CURDIR)/bin:$$PATH" $(GO) run ./internal/termshot/intofile docs/bpfctl.md

# The modules are those that go.mod and bench/go.mod require.
licences: ## docs/licences.md: each required module, its licence and its users
	@mkdir -p out
	$(GO) run ./internal/licences >out/licences.md
	mv out/licences.md docs/licences.md

RELEASE_ARCHES ?= amd64 arm64 386 arm riscv64
# The same commit and the same Go make the same bytes.
release: ## archives of bpfctl for FreeBSD, SBOMs and SHA256SUMS, into out/release
	$(GO) run ./internal/release $(if $(VERSION),-version $(VERSION)) out/release $(RELEASE_ARCHES)

man: bin/bpfctl ## the manual pages of bpfctl, into out/man
	bin/bpfctl man out/man

clean:
	rm -rf bin out
