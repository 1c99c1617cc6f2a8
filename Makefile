# longpoll.h: the only build file. `make help` lists the targets; what is built goes to build/.
# Plain enough for GNU make 3.81.

CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
DESTDIR ?=
ARGS    ?=
WERROR  ?=

WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow \
           -Wstrict-prototypes -Wmissing-prototypes -Wundef
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

COMMON   = -pthread $(WARNINGS) $(WERROR) -I. -Ibuild -MMD -MP -MT $@ -MF $@.d
PLAIN    = -std=c99 $(CFLAGS) $(COMMON)
ASAN     = -std=c99 -O1 -g1 -DLONGPOLL_DEBUG $(SANITIZE) $(COMMON)
TSAN     = -std=c99 -O1 -g1 -DLONGPOLL_DEBUG -fsanitize=thread $(COMMON)
TEST     = -std=gnu99 -O1 -g1 $(COMMON)
MSAN     = -std=gnu99 -O1 -g1 -fsanitize=memory -fno-omit-frame-pointer $(COMMON)

# In C++ it is all of that but what is only C's.
ONLY_C   = -std=c99 -Wstrict-prototypes -Wmissing-prototypes
CXX_PLAIN = -std=c++17 $(filter-out $(ONLY_C),$(PLAIN))
CXX_ASAN = -std=c++17 $(filter-out $(ONLY_C),$(ASAN))
CXX_TSAN = -std=c++17 $(filter-out $(ONLY_C),$(TSAN))

BUILD    = @mkdir -p $(@D) && echo "  cc  $@" && $(CC)
BUILD_CXX = @mkdir -p $(@D) && echo "  c++ $@" &&
BUILD_MSAN = @mkdir -p $(@D) && echo "  cc  $@" && clang

# The poller of macOS and the BSDs, on Linux: see tests/build/kqueue.
KQUEUE   = -DLONGPOLL_KQUEUE -Itests/build/kqueue

# The tests' programs are linked with the library, so that the header is compiled once a
# pass and not once a program. What users build, and what looks inside, has it whole.
LINKED   = -Itests/build/linked

# The version is written in one place, the header.
VERSION  = $(shell sed -n 's/^.define LP_VERSION  *"\(.*\)".*/\1/p' longpoll.h)

DEMO     = $(patsubst demo/%.c,build/%,$(sort $(wildcard demo/*.c)))
EXAMPLES = $(patsubst demo/%.c,build/%,$(sort $(wildcard demo/examples/*.c)))
UNIT     = build/unit/all
LIVE     = $(patsubst tests/%.c,build/%,$(sort $(wildcard tests/live/*.c)))
BENCH    = $(patsubst tests/%.c,build/%,$(sort $(filter-out tests/bench/trace.c,$(wildcard tests/bench/*.c))))
WEB      = $(sort $(wildcard demo/web/*)) demo/client/longpoll.js

# Of the examples one wants libuv, and one, with the tests of what it stands on, C++.
UV      := $(shell pkg-config --cflags --libs libuv 2>/dev/null || \
             { printf '\043include <uv.h>\n' | $(CC) -E - >/dev/null 2>&1 && echo -luv; })
ifeq ($(UV),)
EXAMPLES := $(filter-out build/examples/uv,$(EXAMPLES))
endif
ifneq ($(shell command -v $(CXX)),)
CXX17    = build/examples/chat build/live/wrapper
endif

.SUFFIXES:
.DELETE_ON_ERROR:
.PHONY: all examples run test check unit wire live browser build-matrix \
        unit-programs check-programs servers live-programs \
        fuzz redis redis-programs sim sim-programs many many-programs million faults \
        fault-programs mutants model bench bench-programs trace chaos install uninstall clean help always

all: $(DEMO)

examples: $(EXAMPLES) $(filter build/examples/%,$(CXX17))

run: all
	@build/server $(ARGS)

help:
	@echo 'make                 build the demo, build/server'
	@echo 'make examples        build those of demo/examples, as build/examples/NAME'
	@echo 'make run             serve it on http://127.0.0.1:8080   (ARGS="--port 9000" ...)'
	@echo 'build/server --help  its options, all of which ARGS may have'
	@echo 'make test            every test; as root on Debian it first installs what they need'
	@echo 'make check           in two minutes: units, wire, a minute of the simulator'
	@echo 'make unit            one suite; also wire, live, browser, build-matrix'
	@echo 'make sim             the simulator, by hand: EVENTS=1000000000 SEED=1; also million'
	@echo 'make many            likewise, many instances that share their channels over Redis'
	@echo 'make redis           the simulated Redis against a real one: CALLS=1000000 SEED=1'
	@echo 'make faults          every allocation and system call fails, one at a time'
	@echo 'make mutants model   deliberate bugs are found; the model checked by spin'
	@echo 'make chaos           Redis and instances fail under load, 15 minutes   (ARGS="--share 0.1 stop" ...)'
	@echo 'make bench           measured against peers, about 25 minutes   (ARGS="--quick fanout" ...)'
	@echo 'make trace           the functions that a poll and a message go through, by section'
	@echo 'make fuzz            each fuzzer for SECONDS=60; tests/fuzz/run -h'
	@echo 'tests/run -h         how to run one file or one test'
	@echo 'make install         header and pkg-config file   (PREFIX=/usr/local, DESTDIR=)'
	@echo 'make uninstall clean'

# ---- the demo

build/%-asan: demo/%.c build/library-asan.o
	$(BUILD) $(LINKED) $(ASAN) $< build/library-asan.o $(LIBS) -o $@

build/%-tsan: demo/%.c build/library-tsan.o
	$(BUILD) $(LINKED) $(TSAN) $< build/library-tsan.o $(LIBS) -o $@

build/%-nothreads: demo/%.c
	$(BUILD) $(PLAIN) -DLONGPOLL_NO_THREADS $< -o $@

build/%-msan: demo/%.c build/library-msan.o
	$(BUILD_MSAN) $(LINKED) $(MSAN) $< build/library-msan.o -o $@

build/%-kqueue: demo/%.c build/library-kqueue.o build/kqueue.o
	$(BUILD) $(LINKED) $(TEST) $(KQUEUE) $< build/library-kqueue.o build/kqueue.o -o $@

build/%: demo/%.c
	$(BUILD) $(PLAIN) $< $(LIBS) -o $@

build/examples/uv build/examples/uv-asan build/examples/uv-tsan: LIBS = $(UV)

vpath %.cpp demo tests

build/%-clang-asan: %.cpp
	$(BUILD_CXX) clang++ $(CXX_ASAN) -O0 $< -o $@

build/%-asan: %.cpp build/library-asan.o
	$(BUILD_CXX) $(CXX) $(LINKED) $(CXX_ASAN) $< build/library-asan.o -o $@

build/%-tsan: %.cpp build/library-tsan.o
	$(BUILD_CXX) $(CXX) $(LINKED) $(CXX_TSAN) $< build/library-tsan.o -o $@

build/live/%: tests/live/%.cpp build/library.o
	$(BUILD_CXX) $(CXX) $(LINKED) $(CXX_PLAIN) $< build/library.o -o $@

build/%: %.cpp
	$(BUILD_CXX) $(CXX) $(CXX_PLAIN) $< -o $@

build/server build/server-asan build/server-tsan build/server-msan build/server-kqueue build/server-nothreads: build/web.h

# The page as C: one array per file, and a table of path, name and bytes.
build/web.h: $(WEB) Makefile
	@mkdir -p $(@D) && echo "  web $@"
	@{ for file in $(WEB); do \
	     echo "static const unsigned char web_$$(basename $$file | tr '.-' '__')[] = {"; \
	     od -An -v -tx1 $$file | sed 's/ *\([0-9a-f][0-9a-f]\)/0x\1,/g'; \
	     echo '};'; \
	   done; \
	   echo 'static struct web_file {'; \
	   echo '    const char *path, *name; lp_slice bytes;'; \
	   echo '} web_files[] = {'; \
	   for file in $(WEB); do \
	     name=$$(basename $$file); id=web_$$(echo $$name | tr '.-' '__'); \
	     path=/$$name; [ $$name != index.html ] || path=/; \
	     echo "    {\"$$path\", \"$$name\", {(const char *)$$id, sizeof $$id}},"; \
	   done; \
	   echo '};'; } > $@

# ---- the library by itself, for the tests' programs

build/library-asan.o: tests/build/implementation.c Makefile
	$(BUILD) $(ASAN) -c $< -o $@

build/library-tsan.o: tests/build/implementation.c Makefile
	$(BUILD) $(TSAN) -c $< -o $@

build/library-msan.o: tests/build/implementation.c Makefile
	$(BUILD_MSAN) $(MSAN) -c $< -o $@

build/library-kqueue.o: tests/build/implementation.c Makefile
	$(BUILD) $(TEST) $(KQUEUE) -c $< -o $@

build/library.o: tests/build/implementation.c Makefile
	$(BUILD) $(TEST) -c $< -o $@

# ---- the tests' programs; tests/run runs them

unit-programs: $(UNIT) $(UNIT:=-asan) build/unit/threads-tsan
check-programs: $(UNIT:=-asan) build/server-asan build/sim
servers: build/server build/server-asan build/server-tsan build/server-nothreads
live-programs: servers $(LIVE) $(LIVE:=-asan) $(EXAMPLES) $(EXAMPLES:=-asan)
live-programs: $(CXX17) $(CXX17:=-asan)
live-programs: $(patsubst %,build/live/%-tsan,server abuse-inside cancel fanout fork)
ifeq ($(shell uname),Linux)
servers: build/server-kqueue
live-programs: build/live/server-kqueue build/live/fork-kqueue
ifneq ($(shell command -v clang),)
unit-programs: $(UNIT:=-msan)
servers: build/server-msan
live-programs: build/live/server-msan build/live/fanout-msan $(CXX17:=-clang-asan)
endif
endif

# The unit tests are one program, so that the header is compiled once a pass and not once a
# file; json.c first, which puts an snprintf of its own under the header. A local of one file
# may have the name of what is another file's own.
UNIT_ALL = tests/unit/json.c $(filter-out tests/unit/json.c,$(sort $(wildcard tests/unit/*.c)))

build/unit/all build/unit/all-asan build/unit/all-msan: WARNINGS += -Wno-shadow

build/unit/all: build/unit/all.c Makefile
	$(BUILD) $(TEST) $< -o $@

build/unit/all-asan: build/unit/all.c Makefile
	$(BUILD) $(TEST) $(SANITIZE) $< -o $@

build/unit/all-msan: build/unit/all.c Makefile
	$(BUILD_MSAN) $(MSAN) $< -o $@

# Written anew only when a file came or went.
build/unit/all.c: always
	@mkdir -p $(@D)
	@{ echo '#define _GNU_SOURCE'; \
	   for file in $(UNIT_ALL); do echo "#include \"$$file\""; done; } >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

build/unit/%-asan: tests/unit/%.c Makefile
	$(BUILD) $(TEST) $(SANITIZE) $< -o $@

build/unit/%-tsan: tests/unit/%.c Makefile
	$(BUILD) $(TEST) -fsanitize=thread $< -o $@

build/unit/%: tests/unit/%.c Makefile
	$(BUILD) $(TEST) $< -o $@

build/live/%-asan: tests/live/%.c build/library-asan.o
	$(BUILD) $(LINKED) $(TEST) $(SANITIZE) $< build/library-asan.o -o $@

build/live/%-tsan: tests/live/%.c build/library-tsan.o
	$(BUILD) $(LINKED) $(TEST) -fsanitize=thread $< build/library-tsan.o -o $@

build/live/%-msan: tests/live/%.c build/library-msan.o
	$(BUILD_MSAN) $(LINKED) $(MSAN) $< build/library-msan.o -o $@

build/live/%-kqueue: tests/live/%.c build/library-kqueue.o build/kqueue.o
	$(BUILD) $(LINKED) $(TEST) $(KQUEUE) $< build/library-kqueue.o build/kqueue.o -o $@

build/live/%: tests/live/%.c build/library.o
	$(BUILD) $(LINKED) $(TEST) $< build/library.o -o $@

build/kqueue.o: tests/build/kqueue/kqueue.c Makefile
	$(BUILD) $(TEST) $(KQUEUE) -c $< -o $@

test:
	@tests/setup
	@tests/run

check unit wire live browser:
	@tests/run $@

build-matrix:
	@tests/run build

# ---- the simulator, faults, mutants and the model; in `make test` at a smaller size

EVENTS  ?= 100000000
SEED    ?= 1

sim-programs: build/sim build/sim-asan
many-programs: build/many build/many-asan
fault-programs: build/faults build/faults-asan

build/sim: tests/sim/sim.c Makefile
	$(BUILD) $(TEST) -O2 $< -o $@

build/sim-asan: tests/sim/sim.c Makefile
	$(BUILD) $(TEST) $(SANITIZE) $< -o $@

build/many: tests/sim/many.c Makefile
	$(BUILD) $(TEST) -O2 $< -o $@

build/many-asan: tests/sim/many.c Makefile
	$(BUILD) $(TEST) $(SANITIZE) $< -o $@

build/faults: tests/faults/faults.c Makefile
	$(BUILD) $(TEST) $< -o $@

build/faults-asan: tests/faults/faults.c Makefile
	$(BUILD) $(TEST) $(SANITIZE) $< -o $@

sim: build/sim
	build/sim --events $(EVENTS) --seed $(SEED)

many: build/many
	build/many --events $(EVENTS) --seed $(SEED)

million: build/sim
	build/sim --million

faults: build/faults
	build/faults

mutants:
	tests/sim/mutants.sh

model:
	tests/model/run

# ---- the simulated Redis, against redis-server

CALLS   ?= 1000000
SCRIPTS  = --call build/redis/call.lua --beat build/redis/beat.lua

redis-programs: build/redis/differential build/redis/differential-asan build/redis/clock.so \
                build/redis/call.lua build/redis/beat.lua

# The scripts, out of the strings in the header.
build/redis/call.lua build/redis/beat.lua: build/redis/%.lua: longpoll.h Makefile
	@mkdir -p build/redis
	@sed -n '/^static const char lpi_store_$*[a-z_]*\[\] =/,/;$$/s/^    "\(.*\)\\n";*$$/\1/p' longpoll.h | \
	    sed 's/\\"/"/g' >$@

build/redis/differential: tests/redis/differential.c Makefile
	$(BUILD) $(TEST) $< -o $@

build/redis/differential-asan: tests/redis/differential.c Makefile
	$(BUILD) $(TEST) $(SANITIZE) $< -o $@

build/redis/clock.so: tests/redis/clock.c Makefile
	$(BUILD) $(TEST) -shared -fPIC $< -o $@

redis: redis-programs
	build/redis/differential $(SCRIPTS) --calls $(CALLS) --seed $(SEED)
# ---- the load on three instances while Redis fails; in `make test` a fifth of it

chaos: all
	@node tests/live/chaos.mjs $(ARGS)

# ---- the bench; all of it is compiled alike

bench-programs: $(BENCH) build/redis/call.lua

build/bench/%: tests/bench/%.c Makefile
	$(BUILD) -std=gnu99 $(CFLAGS) $(COMMON) $< -o $@

bench:
	@tests/bench/run $(ARGS)

trace:
	@tests/bench/trace

SECONDS ?= 60

fuzz:
	FUZZ_SECONDS=$(SECONDS) tests/fuzz/run

# ---- install

build/longpoll.pc: longpoll.h Makefile
	@mkdir -p $(@D)
	@{ echo 'prefix=$(PREFIX)'; \
	   echo 'includedir=$${prefix}/include'; \
	   echo; \
	   echo 'Name: longpoll'; \
	   echo 'Description: HTTP long polling server in a single header'; \
	   echo 'Version: $(VERSION)'; \
	   echo 'Cflags: -I$${includedir} -pthread'; \
	   echo 'Libs: -pthread'; } > $@

.PHONY: build/longpoll.pc

install: build/longpoll.pc
	mkdir -p $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	cp longpoll.h $(DESTDIR)$(PREFIX)/include/longpoll.h
	cp build/longpoll.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig/longpoll.pc

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/include/longpoll.h
	rm -f $(DESTDIR)$(PREFIX)/lib/pkgconfig/longpoll.pc

clean:
	rm -rf build

-include $(wildcard build/*.d build/examples/*.d build/unit/*.d build/live/*.d build/redis/*.d build/bench/*.d)
