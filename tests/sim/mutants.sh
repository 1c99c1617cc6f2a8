#!/bin/sh
# Mutation proof: each deliberate bug of mutants/*.sed, one at a time, must be found by the
# simulator, or by what its line "# found by FILE" names: unit tests, or many.c. A mutant is a sed
# script that changes exactly one line of longpoll.h; one that no longer applies is a
# failure, as is one that is not found. A line "# seed N" says with which seed it was found soon;
# when the code has changed, the worlds have too, and it takes as long as it takes.
#
#   tests/sim/mutants.sh [NAME...]     from the top of the checkout; uses build/mutants
#
# From the environment: CC (clang, which compiles faster, or else cc; but first tcc is tried, unless
# TCC=no, which is faster by far), SEED (1, or the mutant's own), EVENTS (12000000) for each, JOBS
# (2); PART=K/N for the Kth (from 0) of N parts of them, of which the first also proves that the
# code as it is passes, in AS_IT_IS events (EVENTS).

cd "$(dirname "$0")/../.." || exit 1
: "${CC:=$(command -v clang || echo cc)}" "${EVENTS:=12000000}" "${JOBS:=2}" "${TCC:=yes}"
out=build/mutants

# compile FILE OUT FLAGS...   By tcc if it is here and can: it lacks what tcc.h has for x86-64 alone.
# The C library's headers take it for an early gcc, whose attributes it knows.
compile() {
    source=$1 made=$2
    shift 2
    if [ "$TCC" != no ] &&
        tcc -D__GNUC__=2 -D__GNUC_MINOR__=0 -D__USER_LABEL_PREFIX__= -D_GNU_SOURCE \
            -include tests/sim/tcc.h -w -pthread "$@" "$source" -o "$made" 2>/dev/null
    then return; fi
    $CC -std=gnu99 -O0 -w -pthread "$@" "$source" -o "$made" >"$dir/cc" 2>&1
}

# try NAME   Writes its line of the table to $out/NAME/line.
try() {
    dir=$out/$1
    rm -rf "$dir"
    mkdir -p "$dir"
    sed -f "tests/sim/mutants/$1.sed" longpoll.h >"$dir/longpoll.h"
    changed=$(diff longpoll.h "$dir/longpoll.h" | grep -c '^<')
    unit=$(sed -n 's/^# found by //p' "tests/sim/mutants/$1.sed")
    seed=${SEED:-$(sed -n 's/^# seed //p' "tests/sim/mutants/$1.sed")}
    simulator=sim
    [ "$unit" != tests/sim/many.c ] || unit='' simulator=many
    [ -z "$unit" ] || { try_unit "$1"; return; }
    if [ "$changed" != 1 ]; then
        verdict="FAIL: it changes $changed lines, not 1"
    elif ! compile tests/sim/$simulator.c "$dir/sim" -I"$dir"; then
        verdict="FAIL: it does not compile"
    elif timeout -k 5 240 "$dir/sim" --events "$EVENTS" --seed "${seed:-1}" >"$dir/out" 2>&1; then
        verdict="FAIL: it is not found in $EVENTS events"
    else
        events=$(sed -n 's/.*(event \([0-9]*\) of the run)$/\1/p' "$dir/out")
        reason=$(sed -n 's/^FAIL: //p' "$dir/out" | head -n 1 | cut -c 1-100)
        verdict="found after ${events:-?} events: ${reason:-a crash}"
    fi
    printf '%-20s %s\n' "$1" "$verdict" >"$dir/line"
}

# Likewise by $unit, in a copy of the checkout's tests that has the mutant above it.
try_unit() {
    mkdir -p "$dir/tests"
    cp -R tests/unit tests/*.h "$dir/tests/"
    if [ "$changed" != 1 ]; then
        verdict="FAIL: it changes $changed lines, not 1"
    elif ! compile "$dir/$unit" "$dir/unit"; then
        verdict="FAIL: it does not compile"
    elif UNIT_SECONDS=5 timeout -k 5 120 "$dir/unit" --first >"$dir/out" 2>&1; then
        verdict="FAIL: it is not found by $unit"
    else
        reason=$(sed -n 's/^FAIL[: ]*//p' "$dir/out" | head -n 1 | cut -c 1-100)
        verdict="found by $unit: ${reason:-a crash}"
    fi
    printf '%-20s %s\n' "$1" "$verdict" >"$dir/line"
}

if [ -n "$only" ]; then # called by xargs below
    try "$only"
    exit
fi

[ $# -gt 0 ] || set -- $(ls tests/sim/mutants | sed -n 's/\.sed$//p' |
    awk -v part="${PART:-0/1}" '{ split(part, p, "/") } NR % p[2] == p[1]')
export CC SEED EVENTS TCC

# The code as it is must pass, compiled as the mutants are, or the rest proves nothing.
as_it_is() {
    dir=$out/as-it-is events=${AS_IT_IS:-$EVENTS}
    mkdir -p $dir
    passes tests/sim/sim.c --events "$events" --seed "${SEED:-1}"
    passes tests/sim/many.c --events $((events / 20)) --seed "${SEED:-1}"
    for unit in $(sed -n 's/^# found by \(tests.unit\)/\1/p' tests/sim/mutants/*.sed | sort -u); do
        passes "$unit"
    done
}

# passes FILE ARGUMENTS...
passes() {
    file=$1
    shift
    compile "$file" $dir/program -I. && $dir/program "$@" >$dir/out 2>&1 && return
    echo "FAIL: the code as it is does not pass $file"
    tail -n 5 $dir/out
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}

case ${PART:-0/1} in 0/*) as_it_is;; esac
printf '%s\n' "$@" | xargs -P "$JOBS" -I '{}' env only='{}' sh tests/sim/mutants.sh
passed=0 failed=0
for name; do
    cat $out/$name/line 2>/dev/null || echo "$name FAIL: no verdict" | tee $out/$name.line
    case $(cat $out/$name/line 2>/dev/null) in
        *FAIL:*) failed=$((failed + 1)); echo "again: tests/sim/mutants.sh $name";;
        *" found after "* | *" found by "*) passed=$((passed + 1));;
        *) failed=$((failed + 1)); echo "again: tests/sim/mutants.sh $name";;
    esac
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
