# make          builds bin/locksmithd and bin/locksmithctl
# make demo     a simulated fleet reboots one host after another (HOSTS=3 MAX=1)
# make test     every test; installs what it needs when run as root
# make scale    what a rollout over many hosts asks of etcd (HOSTS=10,100,1000,10000 MAX=1)
# make lint race bench fuzz chaos install clean: see below

VERSION := 0.8.0
PREFIX  ?= /usr
DESTDIR ?=
HOSTS   ?= 3
MAX     ?= 1
FUZZTIME ?= 20s
OPS     ?= 100000
DURATION ?= 30m

GO      ?= go
LDFLAGS := -s -w -X main.version=$(VERSION)
# grpcnotrace leaves golang.org/x/net/trace, and with it html/template, out of the
# binaries: a megabyte less of resident memory on every host.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)'

.PHONY: all
all: bin/locksmithd bin/locksmithctl

.PHONY: bin/locksmithd bin/locksmithctl bin/demo
bin/locksmithd bin/locksmithctl:
	$(BUILD) -o $@ ./$(@F)
bin/demo:
	$(BUILD) -o $@ ./internal/demo

# What only building and testing needs, built from the tools module.
bin/etcd: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ go.etcd.io/etcd/server/v3
bin/staticcheck: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ honnef.co/go/tools/cmd/staticcheck

.PHONY: tools
tools: bin/etcd bin/staticcheck

.PHONY: demo
demo: all bin/demo bin/etcd
	@scripts/need dbus-daemon
	@bin/demo -hosts $(HOSTS) -max $(MAX)

# One package at a time: they start processes of their own, and have deadlines.
.PHONY: test
test: all bin/demo bin/etcd
	@scripts/need dbus-daemon etcd-server systemd systemd-container util-linux
	$(GO) test -p 1 ./...

# All but the model, which has no goroutines and is slow under the detector, and
# the chaos harness, whose clients would be too slow to meet each other.
.PHONY: race
race: all bin/demo bin/etcd
	@scripts/need dbus-daemon etcd-server systemd systemd-container util-linux gcc
	CGO_ENABLED=1 $(GO) test -race -p 1 $$($(GO) list ./... | grep -v -e internal/model -e internal/chaos)

.PHONY: lint
lint: bin/staticcheck
	@scripts/need shellcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	bin/staticcheck ./...
	shellcheck .ci/run scripts/need

.PHONY: bench
bench: all bin/etcd
	@scripts/need dbus-daemon etcd-server
	$(GO) test -run '^$$' -bench . ./...

# The lock under faults, checked: make chaos OPS=100000 SEED=1 DURATION=30m
.PHONY: chaos
chaos: bin/etcd
	$(if $(SEED),LOCKSMITH_SEED=$(SEED)) CHAOS_OPS=$(OPS) CHAOS_DURATION=$(DURATION) \
		$(GO) test -count=1 -v -timeout 0 -run '^TestLockIsLinearizableUnderFaults$$' ./internal/chaos

# With 10,000 hosts it takes 3 GB of memory and several minutes.
.PHONY: scale
scale: HOSTS := 10,100,1000,10000
scale: bin/etcd
	$(GO) run ./internal/scale -hosts $(HOSTS) -max $(MAX)

# Every fuzz target in turn, for FUZZTIME each.
.PHONY: fuzz
fuzz:
	@grep -rho --include='*_test.go' '^func Fuzz[A-Za-z]*' . | sort | while read -r _ target; do \
		pkg=./$$(dirname $$(grep -rl --include='*_test.go' "^func $$target(" .)); \
		echo "== $$target ($$pkg)"; \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	done

# With PREFIX=/usr everything is where hosts look for it.
.PHONY: install
install: all
	install -D -m 0755 bin/locksmithd $(DESTDIR)$(PREFIX)/lib/locksmith/locksmithd
	install -D -m 0755 bin/locksmithctl $(DESTDIR)$(PREFIX)/bin/locksmithctl
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/lib/locksmith/|$(PREFIX)/lib/locksmith/|' systemd/locksmithd.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/locksmithd.service
	chmod 0644 $(DESTDIR)$(PREFIX)/lib/systemd/system/locksmithd.service

.PHONY: clean
clean:
	rm -rf bin
