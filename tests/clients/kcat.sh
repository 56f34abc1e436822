#!/usr/bin/env bash
# Checks a cluster with kcat: metadata, keyed records with every codec, reading by assignment. Topics come from
# auto-creation, which is how kcat users get them; kcat itself has no admin calls.
# Reads FLOTILLA_BOOTSTRAP, FLOTILLA_RECORDS, FLOTILLA_LONG; prints a line a check; exit code 1 if one failed.
set -uo pipefail

bootstrap=${FLOTILLA_BOOTSTRAP:-127.0.0.1:9092}
codecs=(none gzip snappy lz4 zstd)
records=${FLOTILLA_RECORDS:-10000}
[ "${FLOTILLA_LONG:-}" = 1 ] || records=$((records / ${#codecs[@]}))
version=$(kcat -V | sed -n 's/^Version \([^ ]*\) .*librdkafka \([^ ]*\) .*/\1\/librdkafka-\2/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# check LABEL COUNT FUNCTION [ARGUMENTS...]: the function says what is wrong on its output, or nothing.
check() {
  local label=$1 count=$2 start=${EPOCHREALTIME/[.,]/} wrong centis
  shift 2
  if wrong=$("$@" 2>&1) && [ -z "$wrong" ]; then
    centis=$(((${EPOCHREALTIME/[.,]/} - start) / 10000))
    printf 'ok kcat %s %s %d %d.%02d\n' "$version" "$label" "$count" $((centis / 100)) $((centis % 100))
  else
    printf 'FAIL kcat %s %s: %.500s\n' "$version" "$label" "${wrong//$'\n'/ | }"
    failed=1
  fi
}

kc() { timeout 60 kcat -q -b "$bootstrap" -X log_level=2 "$@"; }

metadata() {
  local listed
  listed=$(timeout 20 kcat -b "$bootstrap" -L) || { echo "kcat -L failed: $listed"; return 1; }
  grep -q 'broker [0-9]* at ' <<< "$listed" || echo "no broker in: $listed"
  grep -q '(controller)' <<< "$listed" || echo "no controller in: $listed"
}

# Sends `KEY VALUE` lines with one codec and compares each key's lines, in order, with what is read back.
roundtrip() {
  local codec=$1 topic read
  topic="client-kcat-$codec-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')"
  awk -v n="$records" -v c="$codec" 'BEGIN { for (i = 0; i < n; i++) print "key-" i % 97 "\t" c "-" i }' > "$work/sent"
  kc -P -t "$topic" -K '\t' -z "$codec" -X acks=all -X enable.idempotence=true -X topic.partitioner=murmur2_random \
    -H "codec=$codec" -X allow.auto.create.topics=true < "$work/sent" || { echo "produce failed"; return 1; }
  kc -C -t "$topic" -o beginning -e -f '%p %o %k\t%s\t%h\n' > "$work/all" || { echo "read failed"; return 1; }
  sort -s -n -k 1,1 "$work/all" > "$work/read"
  awk '$1 != p { p = $1; n = 0 } $2 != n++ { print "partition " p ": offset " $2 " at place " n - 1; exit }' "$work/read"
  cut -d ' ' -f 3- "$work/read" | cut -f 1,2 | sort -s -k 1,1 > "$work/got"
  sort -s -k 1,1 "$work/sent" | cmp - "$work/got" || echo "keys, values or their order differ"
  [ "$(cut -f 3 "$work/read" | sort -u)" = "codec=$codec" ] || echo "headers differ: $(cut -f 3 "$work/read" | sort -u | head -3)"
  read=$(cut -d ' ' -f 1,3 "$work/read" | cut -f 1 | sort -u | cut -d ' ' -f 2 | sort | uniq -d)
  [ -z "$read" ] || echo "keys in more than one partition: $read"
}

# Reads half of a topic as a group, then the rest: the second run begins where the first one has committed.
group() {
  local name topic half
  name="client-kcat-group-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')" topic="$name-topic" half=$((records / 2))
  seq "$records" | kc -P -t "$topic" -X acks=all || { echo "produce failed"; return 1; }
  kc -G "$name" -X auto.offset.reset=earliest -c "$half" "$topic" > "$work/first" || { echo "first half failed"; return 1; }
  kc -G "$name" -X auto.offset.reset=earliest -c $((records - half)) "$topic" > "$work/second" ||
    { echo "second half failed"; return 1; }
  sort -n "$work/first" "$work/second" | cmp - <(seq "$records") || echo "not every record was read once"
}

check metadata 1 metadata
check group "$records" group
for codec in "${codecs[@]}"; do
  check "$codec" "$records" roundtrip "$codec"
done
exit $failed
