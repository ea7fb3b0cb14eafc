# The targets a person uses: build, demo, test, check, install. `make help` says what each does.

PREFIX     ?= /usr/local
DESTDIR    ?=
# How often `make failover` goes through the transitions; of `make drill`, what to break.
ROUNDS     ?= 9
FAULTS     ?=
# Of `make fuzz`: which targets (all of them), and after how many inputs or seconds each ends.
FUZZ       ?=
FUZZ_RUNS  ?= 10000000
FUZZ_TIME  ?= 3600
DOC         = $(DESTDIR)$(PREFIX)/share/doc/mysqlchk
# Of `make deb` and `make rpm`: a version of its own for the package.
PACKAGE_VERSION ?=
UNITS       = $(DESTDIR)$(PREFIX)/lib/systemd/system
CARGO      ?= cargo

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# Static and at a fixed address: a fifth less CPU per check than a dynamic binary (docs/cost.md). The target is named so
# that the flags do not reach what runs while building.
TARGET     := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
FAST_FLAGS := -C target-feature=+crt-static -C relocation-model=static
# And with the code that a check runs in one place: a fourth less CPU (docs/cost.md, tests/src/bin/order.rs). Relative to the
# root of the workspace, where cargo links.
FAST_FLAGS += -C link-arg=-Wl,-T,crates/watchdog/start.ld
# The same source gives the same binaries, wherever it and cargo's crates are.
CARGO_HOME ?= $(HOME)/.cargo
FAST_FLAGS += --remap-path-prefix=$(CURDIR)=/mysqlchk --remap-path-prefix=$(CARGO_HOME)=/cargo
# Where the build leaves the binaries, and where the tests and the demo look for them.
MYSQLCHK_BIN := $(CARGO_TARGET_DIR)/$(TARGET)/release
export MYSQLCHK_BIN

# Where `make roots` unpacks what Debian 12 does not have, and where the tests look for it.
MYSQLCHK_ROOTS := $(CARGO_TARGET_DIR)/roots
export MYSQLCHK_ROOTS

# One a line: crates/check reads the file, too, for the groups of option files.
PROGRAMS := $(shell cat PROGRAMS)
# What is not a check.
HELPERS  := mysqlchk-ctl mysqlchk-consistency
BINARIES := $(PROGRAMS:%=$(MYSQLCHK_BIN)/%) $(HELPERS:%=$(MYSQLCHK_BIN)/%)

.PHONY: help build check test fuzz demo drill failover bench bench-consistency pictures order man install completions deb rpm deps roots
.DEFAULT_GOAL := build
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1	/p' $(MAKEFILE_LIST)

build: ## the binaries, as they are installed
	RUSTFLAGS="$(FAST_FLAGS)" $(CARGO) build --release --locked --target $(TARGET) $(PROGRAMS:%=--package %) $(HELPERS:%=--package %)

check: man ## formatting, lints, unit tests and the rules of the house; no server
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	tests/house
	$(CARGO) test --workspace --lib --bins --locked --quiet

test: deps roots check build ## everything, with real servers
	$(CARGO) test --package mysqlchk-tests --tests --locked --no-fail-fast -- --test-threads=2

fuzz: ## made-up input for all that comes from outside, an hour for each of five targets; needs nightly and cargo-fuzz
	FUZZ_RUNS=$(FUZZ_RUNS) FUZZ_TIME=$(FUZZ_TIME) fuzz/run $(FUZZ)

demo: deps build ## a source, a replica, xinetd and HAProxy on loopback; a fault, and what the checks make of it
	$(CARGO) run --package mysqlchk-tests --bin demo --locked --quiet

drill: deps roots build ## five servers behind HAProxy: break one, see where the traffic goes, and when; FAULTS="kill db01" or "reload" does it once
	$(CARGO) run --package mysqlchk-tests --bin drill --locked --quiet -- $(FAULTS)

failover: deps roots build ## how long writes and reads take to move, many times over; writes docs/failover.md
	FAILOVER_ROUNDS=$(ROUNDS) $(CARGO) test --package mysqlchk-tests --test failover_pair --locked -- --test-threads=1
	FAILOVER_ROUNDS=$(ROUNDS) $(CARGO) test --package mysqlchk-tests --test failover --locked -- --nocapture the_figures

bench: deps roots build ## what a check costs against a hand-written C program and the shell checks; writes docs/cost.md
	$(CARGO) run --package mysqlchk-tests --bin bench --release --locked --quiet

bench-consistency: deps build ## what a comparison costs against pt-table-checksum, ROUNDS times over; writes docs/consistency.md
	ROUNDS=$(ROUNDS) $(CARGO) run --package mysqlchk-tests --bin bench_consistency --release --locked --quiet

pictures: deps roots build ## a recording of the drill and HAProxy's statistics page; needs chromium; writes docs/drill.svg and docs/stats.png
	@tests/deps chromium
	$(CARGO) build --package mysqlchk-tests --bin drill --locked --quiet
	$(CARGO) run --package mysqlchk-tests --bin pictures --locked --quiet

order: deps ## which functions a check runs, for the linker; after a change of what is linked; writes crates/watchdog/start.ld
	RUSTFLAGS="$(FAST_FLAGS)" CARGO_PROFILE_RELEASE_STRIP=none CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/order \
		$(CARGO) build --release --locked --target $(TARGET) $(PROGRAMS:%=--package %)
	MYSQLCHK_BIN=$(CARGO_TARGET_DIR)/order/$(TARGET)/release $(CARGO) run --package mysqlchk-tests --bin order --locked --quiet

man: ## the manual pages, checked
	@for page in man/*.[78]; do \
		warnings=$$(groff -man -ww -z -Tutf8 $$page 2>&1); \
		test -z "$$warnings" || { echo "$$page: $$warnings"; exit 1; }; \
	done

$(BINARIES): ; $(MAKE) build

install: $(BINARIES) ## binaries, services, manual pages and an example option file; honours DESTDIR and PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DOC)/docs/recipes $(DOC)/haproxy
	install -d $(DESTDIR)$(PREFIX)/share/man/man7 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin
	install -m 0644 man/*.7 $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 0644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0644 README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE-MIT LICENSE-APACHE $(DOC)
	install -m 0644 docs/*.md docs/*.svg docs/*.png docs/my.cnf $(DOC)/docs
	install -m 0644 docs/recipes/*.md $(DOC)/docs/recipes
	install -m 0644 haproxy/*.cfg haproxy/*.conf $(DOC)/haproxy
	install -m 0644 xinetd.d/tmpfiles.conf $(DOC)
	install -d $(UNITS)
	@for file in systemd/*; do \
		case $$file in *.conf) to=$(DOC) ;; *) to=$(UNITS) ;; esac; \
		sed -e 's|/usr/local/bin|$(PREFIX)/bin|' $$file > $$to/$${file##*/} && chmod 0644 $$to/$${file##*/} || exit 1; \
	done
	install -d $(DESTDIR)/etc/xinetd.d
	install -d -m 0755 $(DESTDIR)/etc/mysqlchk $(DESTDIR)/var/lib/mysqlchk
	install -m 0644 xinetd.d/busy.http $(DESTDIR)/etc/mysqlchk/busy.http
	@# The user of the checks. A package makes it itself: with DESTDIR nothing outside of it is touched.
	test -n "$(DESTDIR)" || getent passwd mysqlchk >/dev/null || \
		useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mysqlchk
	@# What an operator has edited stays; ours is put beside it as FILE.new, which xinetd does not read.
	@for service in mysqlchk galera-chk mysqlchk-agent mysqlchk-metrics; do \
		file=$(DESTDIR)/etc/xinetd.d/$$service; \
		sed -e 's|/usr/local/bin|$(PREFIX)/bin|' xinetd.d/$$service > $$file.new || exit 1; \
		chmod 0644 $$file.new; \
		if test ! -e $$file || cmp -s $$file $$file.new; then mv $$file.new $$file; else echo "kept $$file, see $$file.new"; fi; \
	done
	test -e $(DESTDIR)/etc/mysqlchk/my.cnf || install -m 0640 docs/my.cnf $(DESTDIR)/etc/mysqlchk/my.cnf
	test -n "$(DESTDIR)" || chgrp mysqlchk /etc/mysqlchk/my.cnf

# Not in the programs, which pay for each byte that they carry.
COMPLETIONS := $(CARGO_TARGET_DIR)/completions
export COMPLETIONS
completions: build
	$(CARGO) run --package mysqlchk-tests --bin completions --locked --quiet -- $(COMPLETIONS)

deb: deps completions ## a package for Debian and Ubuntu, in packages below the target directory
	PACKAGE_VERSION=$(PACKAGE_VERSION) packaging/deb $(CARGO_TARGET_DIR)/packages

rpm: deps completions ## the same for RHEL, Fedora and SUSE
	PACKAGE_VERSION=$(PACKAGE_VERSION) packaging/rpm $(CARGO_TARGET_DIR)/packages

deps: ## what demo and test need from Debian; installs it as root, names it otherwise
	@tests/deps

roots: ## MySQL 9, MariaDB 11.8, HAProxy 3.2 and promtool for test, unpacked below the target directory; installs nothing
	@tests/roots
