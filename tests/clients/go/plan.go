// The records every Go client writes and the checks it must pass; knows no client library.
// What is read back must be what was produced: dense offsets from 0, equal keys, values and headers, produce order
// in each partition, acknowledged offsets.

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	partitionCount = 4
	keyCount       = 97
	timeLimit      = 120 * time.Second
	maxMessage     = 1 << 20

	earliest = -2
	latest   = -1
	none     = -1
)

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record as produced or as read back; Time in milliseconds since 1970.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Time       int64
}

// Place is where a record was acknowledged.
type Place struct {
	Partition int
	Offset    int64
}

// Row is a record read back with its offset.
type Row struct {
	Offset int64
	Record Record
}

// Partition is what metadata says of one partition.
type Partition struct{ Leader, Replicas, InSync int }

// Client is the part of a library that the checks use. Errors of the cluster come back so that ErrorCode knows them.
type Client interface {
	Create(ctx context.Context, topic string, partitions int, config map[string]string) error
	Delete(ctx context.Context, topic string) error
	// Produce writes all records with acks=all and gives each one's acknowledged place.
	Produce(ctx context.Context, topic, codec string, records []Record) ([]Place, error)
	// Read reads each partition p from starts[p] up to ends[p] without a group.
	Read(ctx context.Context, topic string, starts, ends []int64) ([][]Row, error)
	// Offsets asks ListOffsets: earliest, latest or a time in milliseconds; `none` where no record is that new.
	Offsets(ctx context.Context, topic string, partitions int, at int64) ([]int64, error)
	Topics(ctx context.Context) (map[string]bool, error)
	Describe(ctx context.Context, topic string) ([]Partition, error)
	Brokers(ctx context.Context) (map[int]bool, error)
	Config(ctx context.Context, topic string) (map[string]string, error)
	SetConfig(ctx context.Context, topic, key, value string) error
	AddPartitions(ctx context.Context, topic string, total int) error
	// DeleteRecords gives the new low watermark; errNoCall where the library lacks the request.
	DeleteRecords(ctx context.Context, topic string, partition int, before int64) (int64, error)
	// ErrorCode gives the Kafka error code an error stands for, or 0.
	ErrorCode(err error) int
}

var (
	bootstrap   = strings.Split(environment("FLOTILLA_BOOTSTRAP", "127.0.0.1:9092"), ",")
	replication = environmentNumber("FLOTILLA_RF", 3)
	recordCount = environmentNumber("FLOTILLA_RECORDS", 10_000)
	long        = os.Getenv("FLOTILLA_LONG") == "1"
	codecs      = []string{"none", "gzip", "snappy", "lz4", "zstd"}
)

func environment(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func environmentNumber(name string, fallback int) int {
	number, err := strconv.Atoi(environment(name, strconv.Itoa(fallback)))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s must be a number: %v\n", name, err)
		os.Exit(2)
	}
	return number
}

func recordsPerCodec() int {
	if long {
		return recordCount
	}
	return max(1, recordCount/len(codecs))
}

func topicName(client, what string) string {
	var random [4]byte
	_, _ = rand.Read(random[:])
	return fmt.Sprintf("client-%s-%s-%s", client, what, hex.EncodeToString(random[:]))
}

// makeRecords gives keyed records: every 89th is a tombstone, sizes vary, times rise by 1 ms.
func makeRecords(codec string, count int) []Record {
	base := time.Now().Unix()*1000 - 3_600_000
	records := make([]Record, count)
	for i := range records {
		value := []byte(fmt.Sprintf("%s %d %s", codec, i, strings.Repeat("flotilla ", i%23)))
		if i%89 == 88 {
			value = nil
		}
		records[i] = Record{
			Key:     []byte(fmt.Sprintf("key-%d", i%keyCount)),
			Value:   value,
			Headers: []Header{{"number", []byte(strconv.Itoa(i))}, {"codec", []byte(codec)}, {"empty", nil}},
			Time:    base + int64(i),
		}
	}
	return records
}

// difference says how two records differ, or gives "".
func difference(got, want Record) string {
	switch {
	case !bytes.Equal(got.Key, want.Key):
		return fmt.Sprintf("key %q, want %q", got.Key, want.Key)
	case !bytes.Equal(got.Value, want.Value) || (got.Value == nil) != (want.Value == nil):
		return fmt.Sprintf("value %.80q (nil: %t), want %.80q", got.Value, got.Value == nil, want.Value)
	case got.Time != want.Time:
		return fmt.Sprintf("time %d, want %d", got.Time, want.Time)
	case len(got.Headers) != len(want.Headers):
		return fmt.Sprintf("%d headers, want %d", len(got.Headers), len(want.Headers))
	}
	for i, header := range got.Headers {
		if header.Key != want.Headers[i].Key || !bytes.Equal(header.Value, want.Headers[i].Value) {
			return fmt.Sprintf("header %d is %q=%q, want %q", i, header.Key, header.Value, want.Headers[i])
		}
	}
	return ""
}

// verify checks what was read, row by row, against what was sent and acknowledged.
func verify(sent []Record, acks []Place, read [][]Row) error {
	home := map[string]int{}
	total := 0
	for partition, rows := range read {
		last := -1
		for i, row := range rows {
			place := fmt.Sprintf("partition %d offset %d", partition, row.Offset)
			if row.Offset != int64(i) {
				return fmt.Errorf("%s: offsets not dense, want %d", place, i)
			}
			number, err := numberOf(row.Record, len(sent))
			if err != nil {
				return fmt.Errorf("%s: %w", place, err)
			}
			if text := difference(row.Record, sent[number]); text != "" {
				return fmt.Errorf("%s: record %d: %s", place, number, text)
			}
			if number <= last {
				return fmt.Errorf("%s: record %d after %d: produce order broken", place, number, last)
			}
			last = number
			if other, known := home[string(row.Record.Key)]; known && other != partition {
				return fmt.Errorf("%s: key %s is also in partition %d", place, row.Record.Key, other)
			}
			home[string(row.Record.Key)] = partition
			if (acks[number] != Place{partition, row.Offset}) {
				return fmt.Errorf("%s: record %d was acknowledged at %+v", place, number, acks[number])
			}
		}
		total += len(rows)
	}
	if total != len(sent) {
		return fmt.Errorf("read %d records, want %d", total, len(sent))
	}
	return nil
}

func numberOf(record Record, count int) (int, error) {
	if len(record.Headers) == 0 {
		return 0, fmt.Errorf("a record without headers: %q", record.Value)
	}
	number, err := strconv.Atoi(string(record.Headers[0].Value))
	if err != nil || number < 0 || number >= count {
		return 0, fmt.Errorf("a record that was not sent: header %q", record.Headers[0])
	}
	return number, nil
}

// Report prints a line a check and remembers whether one failed.
type Report struct {
	name, version string
	failed        bool
	deadline      *time.Timer
	current       string
}

func newReport(name, module string) *Report {
	report := &Report{name: name, version: moduleVersion(module), current: "start"}
	report.deadline = time.AfterFunc(timeLimit, func() {
		fmt.Printf("FAIL %s %s %s: not done after %v\n", report.name, report.version, report.current, timeLimit)
		os.Exit(1)
	})
	return report
}

func moduleVersion(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "unknown"
}

// check runs one check, which gives the number of things it checked.
func (r *Report) check(label string, run func() (int, error)) {
	r.current = label
	start := time.Now()
	count, err := run()
	if err != nil {
		r.failed = true
		fmt.Printf("FAIL %s %s %s: %s\n", r.name, r.version, label, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("ok %s %s %s %d %.2f\n", r.name, r.version, label, count, time.Since(start).Seconds())
}
