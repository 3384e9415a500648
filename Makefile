# make run    build and start the server on its embedded demo configuration
# make test   every test; installs what the tests need
# make attacks what outsiders do who mean harm, with thousands of listeners
# make deb    a Debian package
# make dashboards-check   the dashboards against Grafana's published types
# make soak   everything that can happen to a server, for DURATION=1h
# make bench  instructions of the hot paths, against those recorded
# make compare PRESET=audio   flumen beside its peers, see loadtest/README.md
# The Debian packages that are missing are installed first (with sudo, unless you are root).

CARGO ?= cargo
SUDO  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
ARGS  ?=

BUILD_PACKAGES := gcc libc6-dev pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
RUN_PACKAGES   := gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-x fonts-dejavu-core
BENCH_PACKAGES := valgrind
TEST_PACKAGES  := darkice dpkg-dev faketime gstreamer1.0-tools gstreamer1.0-libav ffmpeg curl openssl python3 mpv chromium prometheus ezstream ices2 oggfwd liquidsoap icecast2 haproxy iproute2 jackd2 nginx-light pebble vlc-bin vlc-plugin-base
PEER_PACKAGES  := icecast2 cubemap

.PHONY: run build test lint deps test-deps world fuzz fuzz-guided attacks miri audit audit-ci deb encoders deaths upgrades dashboards-check soak clean bench bench-record bench-time bench-deps compare

run: deps
	$(CARGO) run --release --locked --bin flumen -- $(ARGS)

build: deps
	$(CARGO) build --release --locked --workspace

test: test-deps
	$(CARGO) test --locked --workspace --all-targets
	$(CARGO) test --locked --workspace --doc
	$(CARGO) test --locked --lib --features model-check engine::feed

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Instructions per unit of work, the same on a busy machine as on an idle one: make bench ONLY="turn gather"
# A change that means to alter them records them anew in the same commit.
ONLY ?=
bench: bench-deps
	$(CARGO) bench --locked --bench instructions -- $(ONLY)

bench-record: bench-deps
	$(CARGO) bench --locked --bench instructions -- --record $(ONLY)

# The same by the clock; on a quiet machine.
bench-time: deps
	$(CARGO) bench --locked --bench timed -- $(ONLY)
	ulimit -n $$(ulimit -Hn); $(CARGO) bench --locked --bench sending

# The seeded world with many more seeds than CI has time for: make world SEEDS=100000
SEEDS ?= 5000
world: deps
	FLUMEN_WORLD_SEEDS=$(SEEDS) $(CARGO) test --locked --release --lib engine::world

# Properties of the core and the parsers with many more cases than CI has time for, and every reader of what outsiders send with so many
# inputs near those that are kept: make fuzz CASES=1000000 EXECUTIONS=10000000 TARGET=head
CASES      ?= 100000
EXECUTIONS ?= 1000000
fuzz: deps
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --release --lib -- silent_gap never_ panic promises --skip fuzzing::
	FLUMEN_FUZZ_EXECUTIONS=$(EXECUTIONS) $(if $(TARGET),FLUMEN_FUZZ_TARGET=$(TARGET)) $(CARGO) test --locked --release --lib -- --nocapture fuzzing::

# The same readers by libFuzzer, guided by coverage and with the address sanitizer beneath; takes the nightly toolchain and cargo-fuzz
# (cargo install cargo-fuzz). What is new is kept in fuzz/corpus: make fuzz-guided TARGET=head RUNS=10000000
RUNS ?= 1000000
fuzz-guided: deps
	FLUMEN_FUZZ_TARGET=$(or $(TARGET),head) $(CARGO) +nightly fuzz run any fuzz/corpus/$(or $(TARGET),head) -- -runs=$(RUNS) -max_len=8192 -timeout=10

# What outsiders do who mean harm, with thousands of listeners who must not notice: make attacks LISTENERS=5000 SCALE=10
LISTENERS ?= 5000
SCALE     ?= 10
attacks: test-deps
	ulimit -n $$(ulimit -Hn); FLUMEN_ATTACK_LISTENERS=$(LISTENERS) FLUMEN_ATTACK_SCALE=$(SCALE) \
	  $(CARGO) test --locked --release --workspace --test attacks -- --nocapture --test-threads 1 $(ONLY)
	ulimit -n $$(ulimit -Hn); FLUMEN_TLS_LISTENERS=1000 $(CARGO) test --locked --release --workspace --test tls new_certificates -- --nocapture

# Pure rooms by the interpreter that sees every step (nightly, with miri): make miri ROOMS="wire:: fanout::"
ROOMS ?= wire:: units:: fanout::ring fanout::cursor fanout::placement fanout::recovery
miri: deps
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 $(CARGO) +nightly miri test --lib -- $(ROOMS) --skip fuzzing::

# Dependencies: advisories, licences, doubles, sources. Advisories are fetched: it takes a network. CI does without them: they change by the
# day, and so would its verdict. The tool is made where it is missing.
DENY := $(or $(shell command -v cargo-deny),target/tools/bin/cargo-deny)
audit: $(DENY)
	$(DENY) --locked check
audit-ci: $(DENY)
	$(DENY) --locked check --hide-inclusion-graph bans licenses sources
target/tools/bin/cargo-deny:
	CARGO_TARGET_DIR=target/tools/build $(CARGO) install --quiet --locked --root target/tools cargo-deny@0.20.2
	rm -rf target/tools/build

# A Debian package of this tree, for the Debian it is built on.
deb: deps
	$(CARGO) build --release --locked --bin flumen
	packaging/make-deb target/release/flumen target/debian

# Real encoders, each listened to for thirty seconds, killed and started again: make encoders SECONDS=30
SECONDS ?= 30
encoders: test-deps
	FLUMEN_ENCODER_SECONDS=$(SECONDS) $(CARGO) test --locked --test encoders

# Twenty upgrades under this many listeners, whose bytes are compared: make upgrades UPGRADE_LISTENERS=2000
UPGRADES          ?= 20
UPGRADE_LISTENERS ?= 1000
upgrades: test-deps
	FLUMEN_UPGRADES=$(UPGRADES) FLUMEN_UPGRADE_LISTENERS=$(UPGRADE_LISTENERS) $(CARGO) test --locked --release --test upgrade -- cost_no_listener --nocapture

# The encoder of so many listeners dies and returns, and is relieved, ten times each: make deaths LISTENERS=10000
deaths: test-deps
	ulimit -n $$(ulimit -Hn); LISTENERS=$(LISTENERS) $(CARGO) test --locked --release --test deaths -- --test-threads 1

# The dashboards against Grafana's published types, a development tool of the versions in dashboards/schema/package.json. They come from
# npm, and so CI, which has no need of them, does without: what can be seen from here tests/dashboards.rs sees there.
SCHEMA := target/dashboards-check
dashboards-check:
	$(if $(shell command -v npm),,$(call install-missing,nodejs npm))
	mkdir -p $(SCHEMA)
	cp dashboards/schema/package.json dashboards/schema/check.mjs dashboards/schema/types.ts $(SCHEMA)/
	cd $(SCHEMA) && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error && node check.mjs $(CURDIR)/dashboards

# Sources that die and flap, listeners of every kind, removals, reloads: make soak DURATION=8h. Go on after a stop: make soak SOAK='--resume soak-…'
DURATION ?= 1h
SOAK     ?= --flumen target/release/flumen --duration $(DURATION)
soak: build
	target/release/loadtest soak $(SOAK)

# The same work for flumen and for what one would pick instead: make compare PRESET=audio (or video, scale, latency, join, stalled, quick)
PRESET ?= quick
compare: deps
	$(call install-missing,$(PEER_PACKAGES))
	$(CARGO) build --release --locked --bin flumen
	$(CARGO) run --release --locked -p flumen-loadtest --features peers -- compare \
	  --preset $(PRESET) --format table --json compare-$(PRESET).json --report compare-$(PRESET).html $(ARGS)

# install-missing: $(call install-missing,packages)
define install-missing
	@missing=""; for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q "ok installed" || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

deps:
	$(call install-missing,$(BUILD_PACKAGES) $(RUN_PACKAGES))

test-deps: deps
	$(call install-missing,$(TEST_PACKAGES))

bench-deps: deps
	$(call install-missing,$(BENCH_PACKAGES))

clean:
	$(CARGO) clean
