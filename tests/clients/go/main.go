// Checks a cluster with the Go clients: `clients kafka-go`, `clients franz-go`, `clients wire` (raw requests), `clients amqp091-go` and
// `clients streadway` (queues), or `clients failover kafka-go|franz-go --seconds N` while somebody else stops nodes; `clients reassign TOPIC 1,2,3`
// moves replicas; `clients queue-kill` works with a queue while somebody else kills the nodes that lead it.
// `clients member ...` is a member of a group, for python/group.py.
// Reads FLOTILLA_BOOTSTRAP, FLOTILLA_RF, FLOTILLA_RECORDS and FLOTILLA_LONG.

package main

import (
	"context"
	"fmt"
	"os"
	"sort"
)

const usage = "usage: clients kafka-go | franz-go | wire | amqp091-go | streadway | failover kafka-go|franz-go [--seconds N] [--rate N] [--partitions N] [--producers N] | member kafka-go|franz-go GROUP TOPIC PROTOCOL | queue-kill | reassign TOPIC NODE,..."

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	switch os.Args[1] {
	case "kafka-go", "franz-go":
		os.Exit(conformance(os.Args[1]))
	case "wire":
		os.Exit(wireCommand())
	case "amqp091-go":
		os.Exit(queueCommand())
	case "streadway":
		os.Exit(streadwayCommand())
	case "queue-kill":
		os.Exit(queueKillCommand())
	case "member":
		os.Exit(memberCommand(os.Args[2:]))
	case "failover":
		os.Exit(failoverCommand(os.Args[2:]))
	case "reassign":
		os.Exit(reassignCommand(os.Args[2:]))
	default:
		fail(usage)
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(2)
}

func newClient(name string) (Client, string, error) {
	switch name {
	case "kafka-go":
		return newKafkaGo(), "github.com/segmentio/kafka-go", nil
	case "franz-go":
		client, err := newFranz()
		return client, "github.com/twmb/franz-go", err
	}
	return nil, "", fmt.Errorf("no client %q", name)
}

func conformance(name string) int {
	client, module, err := newClient(name)
	if err != nil {
		fail(err.Error())
	}
	report := newReport(name, module)
	m := matrix{name, client, context.Background()}
	for _, codec := range codecs {
		report.check(codec, func() (int, error) { return m.roundtrip(codec, recordsPerCodec()) })
	}
	checks := m.checks()
	labels := make([]string, 0, len(checks))
	for label := range checks {
		labels = append(labels, label)
	}
	sort.Strings(labels)
	for _, label := range labels {
		report.check(label, checks[label])
	}
	if report.failed {
		return 1
	}
	return 0
}
