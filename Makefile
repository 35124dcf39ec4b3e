# make          builds bin/locksmithd and bin/locksmithctl
# make demo     a simulated fleet reboots one host after another (HOSTS=3 MAX=1), or stops
#               at a version that does not become well, and takes the fix (UPDATE=bad)
# make test     every test but the real hosts; installs what it needs when run as root
# make test-kubernetes: the tests of locksmith-kubernetes, with a real API server, which it builds in minutes
# make e2e      hosts with a real systemd in containers; needs root (SUITE="bookworm trixie trixie-polkit", or sid)
# make scale    the load that a rollout over many hosts puts on etcd (HOSTS=10,100,1000,10000 MAX=1)
# make deb      Debian packages in dist/ (ARCHES="amd64 arm64")
# make rpm      RPM packages in dist/, for the same ARCHES
# make sysext   system extensions for Flatcar in dist/
# make kubernetes-deb kubernetes-rpm kubernetes-sysext: the same of locksmith-kubernetes; make kubernetes: the program
# make screenshots: the pictures of the page of `locksmithctl serve`, into docs/images
# make man completions: manual pages and shell completions, in bin/share
# make lint race bench fuzz chaos install clean: see below

VERSION := 0.8.0
PREFIX  ?= /usr
DESTDIR ?=
HOSTS   ?= 3
MAX     ?= 1
UPDATE  ?=
FUZZTIME ?= 20s
OPS     ?= 100000
DURATION ?= 30m
ARCHES  ?= amd64 arm64
PACKERS := dpkg rpm squashfs-tools mandoc bash-completion zsh fish # make packages, and check their content
BROWSER := chromium fonts-dejavu-core # what the page is looked at with
# The examples that are programs; the others are data.
SCRIPTS := $(filter-out %.yaml %.json,$(wildcard packaging/examples/*))
EXAMPLES := curl etcd-client haproxy socat # what the examples of hooks are tried with

GO      ?= go
LDFLAGS := -s -w -X main.version=$(VERSION)
# Programs, tests and tools are all built with these, so that what they have in common is
# compiled once; only the race detector needs C.
# grpcnotrace leaves golang.org/x/net/trace, and with it html/template, out of the
# binaries: a megabyte less of resident memory on every host.
# Without -buildvcs a checkout and a tarball give the same bytes.
export CGO_ENABLED := 0
export GOFLAGS := $(shell $(GO) env GOFLAGS) -trimpath -buildvcs=false -tags=grpcnotrace
BUILD   := $(GO) build -ldflags '$(LDFLAGS)'

# The folder of the two binaries for all and install: bin/ for this machine, or, with
# ARCH=arm64, bin/arm64/.
BIN := $(if $(ARCH),bin/$(ARCH),bin)
PROGRAMS := $(foreach dir,bin bin/amd64 bin/arm64,$(dir)/locksmithd $(dir)/locksmithctl)

.PHONY: all
all: $(BIN)/locksmithd $(BIN)/locksmithctl

# locksmith-kubernetes is a module of its own, because of its dependencies.
KUBERNETES := bin/locksmith-kubernetes bin/amd64/locksmith-kubernetes bin/arm64/locksmith-kubernetes

.PHONY: kubernetes
kubernetes: $(BIN)/locksmith-kubernetes

.PHONY: $(PROGRAMS) $(KUBERNETES) bin/demo
$(PROGRAMS):
	GOARCH=$(filter amd64 arm64,$(subst /, ,$(@D))) $(BUILD) -o $@ ./$(@F)
$(KUBERNETES):
	cd kubernetes && GOARCH=$(filter amd64 arm64,$(subst /, ,$(@D))) $(BUILD) -o $(CURDIR)/$@ .
bin/demo:
	$(BUILD) -o $@ ./demo

# What the hosts of make e2e need to be nodes: the control plane, and the stand-in for a kubelet.
.PHONY: bin/kubetest-cluster bin/kubetest-kubelet
bin/kubetest-cluster bin/kubetest-kubelet:
	cd kubernetes && $(BUILD) -o ../$@ ./kubetest/$(@F:kubetest-%=%)

# Manual pages and completions are made from the output of this machine's own programs.
.PHONY: man completions bin/share
man completions: bin/share
bin/share: bin/locksmithd bin/locksmithctl
	rm -rf $@
	$(GO) run ./man -version $(VERSION) -date $$(packaging/epoch) -out $@

# Tools that only building and testing need, built from modules of their own.
bin/etcd: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ go.etcd.io/etcd/server/v3
bin/etcd-3.6: tools/etcd36/go.mod tools/etcd36/go.sum
	cd tools/etcd36 && $(GO) build -o ../../$@ go.etcd.io/etcd/server/v3
bin/etcd-3.5: scripts/fetch-debian
	@scripts/need dpkg
	scripts/fetch-debian trixie etcd-server usr/bin/etcd $@
bin/etcd-3.4: scripts/fetch-debian
	@scripts/need dpkg
	scripts/fetch-debian bookworm etcd-server usr/bin/etcd $@
bin/prometheus: scripts/fetch-debian
	@scripts/need dpkg
	scripts/fetch-debian trixie prometheus usr/bin/prometheus $@
bin/promtool: scripts/fetch-debian
	@scripts/need dpkg
	scripts/fetch-debian trixie promtool usr/bin/promtool $@
bin/prometheus-node-exporter: scripts/fetch-debian
	@scripts/need dpkg
	scripts/fetch-debian trixie prometheus-node-exporter usr/bin/prometheus-node-exporter $@
bin/prometheus-alertmanager: scripts/fetch-debian
	@scripts/need dpkg
	scripts/fetch-debian trixie prometheus-alertmanager usr/share/prometheus $@.share/prometheus usr/bin/prometheus-alertmanager $@
bin/staticcheck: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ honnef.co/go/tools/cmd/staticcheck

bin/nfpm: tools/nfpm/go.mod tools/nfpm/go.sum
	cd tools/nfpm && $(GO) build -o ../../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm

# Ignition reads disks with libblkid, through C.
bin/ignition-apply: tools/provision/go.mod tools/provision/go.sum
	@scripts/need gcc libblkid-dev
	cd tools/provision && CGO_ENABLED=1 $(GO) build -o ../../$@ github.com/coreos/ignition/v2/internal
bin/butane: tools/provision/go.mod tools/provision/go.sum
	cd tools/provision && $(GO) build -o ../../$@ github.com/coreos/butane/internal

# The linker sets what Kubernetes reports as its version, and leaves out symbols, which nothing here reads.
KUBE := k8s.io/component-base/version
bin/kube-apiserver bin/kube-controller-manager: tools/kubernetes/go.mod tools/kubernetes/go.sum
	cd tools/kubernetes && $(GO) build -ldflags "-s -w -X $(KUBE).gitVersion=$$($(GO) list -m -f '{{.Version}}' k8s.io/kubernetes)" \
		-o ../../$@ k8s.io/kubernetes/cmd/$(@F)

# Makes a test fail, and not skip, if a part that it needs is missing.
REQUIRE_ALL := LOCKSMITH_REQUIRE_ALL=1

# The versions of etcd that locksmith is tested against.
ETCDS := bin/etcd bin/etcd-3.6 bin/etcd-3.5 bin/etcd-3.4

# What watches hosts, and knows of alerts.
MONITORS := bin/prometheus bin/promtool bin/prometheus-node-exporter bin/prometheus-alertmanager

.PHONY: tools
tools: $(ETCDS) $(MONITORS) bin/staticcheck

# The newest etcd, the real server, and Chromium.
.PHONY: screenshots
screenshots: bin/locksmithctl bin/etcd
	@scripts/need $(BROWSER)
	$(GO) run ./demo/screenshots

.PHONY: demo
demo: all bin/demo bin/etcd
	@scripts/need dbus-daemon
	@bin/demo -hosts $(HOSTS) -max $(MAX) -update '$(UPDATE)'

# Two packages at a time: mostly they wait. With more their many processes would come near
# to the deadlines. Lint has vetted them.
TEST := $(GO) test -vet=off -p 2 -timeout 30m
.PHONY: test
test: all bin/demo $(ETCDS) $(MONITORS)
	@scripts/need dbus-daemon libpam-systemd systemd systemd-container util-linux apache2-utils $(PACKERS) $(EXAMPLES) $(BROWSER)
	$(REQUIRE_ALL) $(TEST) $$($(GO) list ./... | grep -v test/hosts)

# Tests of locksmith-kubernetes, with a real API server and its controllers.
.PHONY: test-kubernetes
test-kubernetes: bin/etcd bin/kube-apiserver bin/kube-controller-manager
	cd kubernetes && $(REQUIRE_ALL) $(TEST) ./...

# The programs that e2e needs besides the packages: on hosts, beside them, and to provision them.
E2E_PARTS := bin/etcd bin/ignition-apply bin/butane bin/kube-apiserver bin/kube-controller-manager bin/kubetest-cluster bin/kubetest-kubelet bin/locksmith-kubernetes

# Tests the Debian package on hosts with a real systemd, in containers, and upgrades to
# the same package with a later version. The roots of the hosts are made once, and kept
# in the user's cache folder.
SUITE ?= bookworm trixie trixie-polkit
.PHONY: e2e
e2e: ARCH = $(shell dpkg --print-architecture)
e2e: NEXT = $(VERSION)+next
e2e: $(E2E_PARTS)
	@scripts/need debootstrap iproute2 squashfs-tools systemd-container util-linux
	$(MAKE) --no-print-directory deb ARCHES=$(ARCH) VERSION=$(NEXT)
	mv dist/locksmith_$(NEXT)_$(ARCH).deb bin/next.deb
	$(MAKE) --no-print-directory deb ARCHES=$(ARCH)
	@$(MAKE) --no-print-directory --output-sync=target -j$(words $(SUITE)) $(addprefix hosts-,$(SUITE))

# Makes what e2e would make first, apart from the packages: programs, and the roots of the hosts. The first time takes minutes.
.PHONY: e2e-parts
e2e-parts: $(E2E_PARTS)
	@scripts/need debootstrap iproute2 squashfs-tools systemd-container util-linux
	@set -e; for suite in $(SUITE); do $(REQUIRE_ALL) $(TEST) -count=1 ./test/hosts -suite $$suite -root-only; done

# At the same time; atOnce in test/hosts/main_test.go is how many tests each runs at once.
.PHONY: $(addprefix hosts-,$(SUITE))
$(addprefix hosts-,$(SUITE)): ARCH = $(shell dpkg --print-architecture)
$(addprefix hosts-,$(SUITE)): hosts-%:
	@echo "== the hosts are $*"
	@LOCKSMITH_DEB=$(CURDIR)/dist/locksmith_$(VERSION)_$(ARCH).deb LOCKSMITH_NEXT_DEB=$(CURDIR)/bin/next.deb \
		$(REQUIRE_ALL) $(TEST) -count=1 ./test/hosts -suite $* $(E2EFLAGS)

# Left out are what has no goroutines: the model, the policy, settings, windows, views, the
# layout, and what builds or runs programs, which are not built for the detector: the demo,
# packages, manual pages, provisioning, units that a real systemd loads; and the chaos harness,
# whose clients would be too slow to conflict. Nearly everything uses the newest etcd, because
# its version makes no difference to goroutines.
SEQUENTIAL := /demo /demo/screenshots /internal/config /internal/policy /internal/view /window /man /packaging /test/layout /test/model /test/provision /test/updateconf
.PHONY: race
race: all bin/demo bin/etcd bin/etcd-3.4 $(MONITORS)
	@scripts/need dbus-daemon libpam-systemd systemd systemd-container util-linux apache2-utils gcc $(BROWSER)
	$(REQUIRE_ALL) CGO_ENABLED=1 $(TEST) -race \
		-skip '^(TestCLIHasTheSettingsOfTheDaemonThatSystemdStarts|TestRealUnits|TestUnitFilesAreReadAsSystemdReadsThem)$$' \
		$$($(GO) list ./... | grep -v -e test/hosts -e test/chaos $(SEQUENTIAL:%=-e '%$$'))

.PHONY: lint
lint: bin/staticcheck
	@scripts/need shellcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	bin/staticcheck ./...
	cd tools/provision && $(GO) vet . && ../../bin/staticcheck .
	cd kubernetes && $(GO) vet ./... && ../bin/staticcheck ./...
	shellcheck .ci/run scripts/fetch-debian scripts/need packaging/build-* packaging/epoch packaging/notices packaging/locksmith*/*/p* $(SCRIPTS) kubernetes/systemd/may-reboot.d/*

# Missing parts that cannot be installed are named, and the benchmarks that need them are
# skipped.
.PHONY: bench
bench: all bin/etcd
	-@scripts/need dbus-daemon && $(MAKE) --no-print-directory bin/etcd-3.4
	$(GO) test -run '^$$' -bench . ./...

# The lock under faults, checked: make chaos OPS=100000 SEED=1 DURATION=30m
.PHONY: chaos
chaos: bin/etcd
	$(if $(SEED),LOCKSMITH_SEED=$(SEED)) CHAOS_OPS=$(OPS) CHAOS_DURATION=$(DURATION) \
		$(GO) test -count=1 -v -timeout 0 -run '^TestLockIsLinearizableUnderFaults$$' ./test/chaos

# With 10,000 hosts it takes 3 GB of memory and several minutes. LOOK=1: while somebody looks
# at the page of the fleet, and Prometheus and the commands ask for everything.
.PHONY: scale
scale: HOSTS := 10,100,1000,10000
scale: all bin/etcd
	$(GO) run ./test/scale -hosts $(HOSTS) -max $(MAX)$(if $(LOOK), -look bin/locksmithctl)

# Every fuzz target in turn, for FUZZTIME each.
.PHONY: fuzz
fuzz:
	@grep -rho --include='*_test.go' '^func Fuzz[A-Za-z]*' . | sort | while read -r _ target; do \
		pkg=./$$(dirname $$(grep -rl --include='*_test.go' "^func $$target(" .)); \
		echo "== $$target ($$pkg)"; \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	done

# Hosts expect the files as PREFIX=/usr puts them.
.PHONY: install install-locksmith
install: install-locksmith
install-locksmith: all bin/share
	install -D -m 0755 $(BIN)/locksmithd $(DESTDIR)$(PREFIX)/lib/locksmith/locksmithd
	install -D -m 0755 $(BIN)/locksmithctl $(DESTDIR)$(PREFIX)/bin/locksmithctl
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	@set -e; for unit in systemd/*.service systemd/*.socket systemd/*.target; do \
		file=$(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}; \
		sed 's|=/usr/lib/locksmith/locksmithd|=$(PREFIX)/lib/locksmith/locksmithd|; s|=/usr/bin/|=$(PREFIX)/bin/|' $$unit > $$file; \
		chmod 0644 $$file; \
	done
	install -D -m 0644 systemd/locksmith.catalog $(DESTDIR)$(PREFIX)/lib/systemd/catalog/locksmith.catalog
	install -D -m 0644 systemd/buspolicy/io.github.locksmithd.Locksmith1.conf \
		$(DESTDIR)$(PREFIX)/share/dbus-1/system.d/io.github.locksmithd.Locksmith1.conf
	@set -e; for file in $$(cd bin/share && find * -type f ! -name 'locksmith-kubernetes.*'); do \
		install -D -m 0644 bin/share/$$file $(DESTDIR)$(PREFIX)/share/$$file; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/doc/locksmith/examples
	install -m 0755 $(SCRIPTS) $(DESTDIR)$(PREFIX)/share/doc/locksmith/examples
	install -m 0644 $(filter-out $(SCRIPTS),$(wildcard packaging/examples/*)) $(DESTDIR)$(PREFIX)/share/doc/locksmith/examples

# locksmith-kubernetes is hooked in by links: a system extension cannot enable units, and on some hosts presets do not. The
# sections [Install] are left out, because systemctl disable does not remove these links.
.PHONY: install-locksmith-kubernetes
install-locksmith-kubernetes: UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
install-locksmith-kubernetes: kubernetes bin/share
	install -D -m 0755 $(BIN)/locksmith-kubernetes $(DESTDIR)$(PREFIX)/bin/locksmith-kubernetes
	install -D -m 0644 bin/share/man/man8/locksmith-kubernetes.8 $(DESTDIR)$(PREFIX)/share/man/man8/locksmith-kubernetes.8
	install -d $(UNITS) $(DESTDIR)$(PREFIX)/lib/locksmith/may-reboot.d
	@set -e; for path in kubernetes/systemd/*.service; do \
		unit=$${path##*/}; \
		sed '/^\[Install\]/,$$d; s|=/usr/bin/|=$(PREFIX)/bin/|' $$path > $(UNITS)/$$unit; \
		chmod 0644 $(UNITS)/$$unit; \
		for target in $$(sed -n 's/^RequiredBy=//p' $$path); do \
			install -d $(UNITS)/$$target.requires; \
			ln -sf ../$$unit $(UNITS)/$$target.requires/$$unit; \
		done; \
	done
	@set -e; cd kubernetes/systemd; for path in *.d/*.conf; do install -D -m 0644 $$path $(UNITS)/$$path; done
	@set -e; cd kubernetes/systemd; for path in may-reboot.d/*; do \
		sed 's|/usr/bin/|$(PREFIX)/bin/|' $$path > $(DESTDIR)$(PREFIX)/lib/locksmith/$$path; \
		chmod 0755 $(DESTDIR)$(PREFIX)/lib/locksmith/$$path; \
	done
	install -D -m 0644 kubernetes/kubernetes.conf $(DESTDIR)$(PREFIX)/share/doc/locksmith-kubernetes/examples/kubernetes.conf

# The content of the packages. Their scripts run make install-PACKAGE, and build nothing.
PACKED := $(foreach arch,$(ARCHES),bin/$(arch)/locksmithd bin/$(arch)/locksmithctl) bin/share
KUBERNETES_PACKED := $(foreach arch,$(ARCHES),bin/$(arch)/locksmith-kubernetes) bin/share

# The package that a target makes. locksmith-kubernetes has its own targets, because it takes minutes to build.
PACKAGE = $(if $(filter kubernetes-%,$@),locksmith-kubernetes,locksmith)

# Debian packages, dist/PACKAGE_VERSION_ARCH.deb.
.PHONY: deb kubernetes-deb
deb: $(PACKED)
kubernetes-deb: $(KUBERNETES_PACKED)
deb kubernetes-deb:
	@scripts/need dpkg
	@mkdir -p dist
	@set -e; for arch in $(ARCHES); do packaging/build-deb $(PACKAGE) $(VERSION) $$arch dist/$(PACKAGE)_$(VERSION)_$$arch.deb; done

# RPM packages, dist/PACKAGE-VERSION-1.ARCHITECTURE.rpm.
.PHONY: rpm kubernetes-rpm
rpm: $(PACKED)
kubernetes-rpm: $(KUBERNETES_PACKED)
rpm kubernetes-rpm: bin/nfpm
	@mkdir -p dist
	@set -e; for arch in $(ARCHES); do packaging/build-rpm $(PACKAGE) $(VERSION) $$arch \
		dist/$(PACKAGE)-$(VERSION)-1.$$(echo $$arch | sed 's/amd64/x86_64/; s/arm64/aarch64/').rpm; done

# System extensions, PACKAGE-VERSION-ARCHITECTURE.raw with the tree beside it, and the sums that systemd-sysupdate looks
# for. Those of locksmith-kubernetes have a folder of their own, because the pattern of locksmith's, locksmith-@v-%a.raw,
# takes them for locksmith of the version kubernetes-VERSION, and for the newest.
.PHONY: sysext kubernetes-sysext
sysext: EXTENSIONS := dist
sysext: $(PACKED)
kubernetes-sysext: EXTENSIONS := dist/locksmith-kubernetes
kubernetes-sysext: $(KUBERNETES_PACKED)
sysext kubernetes-sysext:
	@scripts/need squashfs-tools
	@set -e; for arch in $(ARCHES); do packaging/build-sysext $(PACKAGE) $(VERSION) $$arch $(EXTENSIONS); done
	cd $(EXTENSIONS) && sha256sum $(PACKAGE)-$(VERSION)-*.raw > SHA256SUMS

.PHONY: clean
clean:
	rm -rf bin dist
