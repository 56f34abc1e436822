// The round trip of one codec, and the admin and error checks; knows no client library.

package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
)

const (
	codeOffsetOutOfRange  = 1
	codeUnknownTopic      = 3
	codeMessageTooLarge   = 10
	codeTopicExists       = 36
	codeInvalidPartitions = 37
	codeInvalidConfig     = 40
)

var errNoCall = errors.New("the library has no such call")

// matrix is one client under check.
type matrix struct {
	name   string
	client Client
	ctx    context.Context
}

func (m matrix) checks() map[string]func() (int, error) {
	return map[string]func() (int, error){
		"admin/describe":           m.describe,
		"admin/configs":            m.configs,
		"admin/partitions-records": m.partitionsAndRecords,
		"error/too-large":          m.tooLarge,
		"error/unknown-topic":      m.unknownTopic,
	}
}

func expect(what string, got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

// eventually waits up to 10 s: brokers may learn of a change a little after its answer.
func eventually(run func() error) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := run(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (m matrix) expectCode(what string, want int, err error) error {
	if err == nil {
		return fmt.Errorf("%s: no error, want code %d", what, want)
	}
	if got := m.client.ErrorCode(err); got != want {
		return fmt.Errorf("%s: got code %d (%w), want %d", what, got, err, want)
	}
	return nil
}

func (m matrix) create(topic string, partitions int, config map[string]string) error {
	if err := m.client.Create(m.ctx, topic, partitions, config); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	return eventually(func() error { return m.settled(topic, partitions) })
}

func (m matrix) settled(topic string, partitions int) error {
	described, err := m.client.Describe(m.ctx, topic)
	if err != nil {
		return err
	}
	for i, partition := range described {
		if partition.Leader < 0 {
			return fmt.Errorf("partition %d of %s has no leader", i, topic)
		}
	}
	return expect("partitions of "+topic, len(described), partitions)
}

func (m matrix) readAll(topic string, partitions int) ([][]Row, error) {
	starts, err := m.client.Offsets(m.ctx, topic, partitions, earliest)
	if err != nil {
		return nil, fmt.Errorf("earliest offsets: %w", err)
	}
	ends, err := m.client.Offsets(m.ctx, topic, partitions, latest)
	if err != nil {
		return nil, fmt.Errorf("latest offsets: %w", err)
	}
	return m.client.Read(m.ctx, topic, starts, ends)
}

// roundtrip creates a topic, produces with one codec, reads all back, asks for offsets by time, deletes.
func (m matrix) roundtrip(codec string, count int) (int, error) {
	topic := topicName(m.name, codec)
	if err := m.create(topic, partitionCount, nil); err != nil {
		return 0, err
	}
	sent := makeRecords(codec, count)
	acks, err := m.client.Produce(m.ctx, topic, codec, sent)
	if err != nil {
		return 0, fmt.Errorf("produce: %w", err)
	}
	read, err := m.readAll(topic, partitionCount)
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	if err := verify(sent, acks, read); err != nil {
		return 0, err
	}
	if err := m.byTime(topic, read); err != nil {
		return 0, err
	}
	return count, m.client.Delete(m.ctx, topic)
}

func (m matrix) byTime(topic string, read [][]Row) error {
	for partition, rows := range read {
		for _, row := range []Row{rows[0], rows[len(rows)/2], rows[len(rows)-1]} {
			found, err := m.client.Offsets(m.ctx, topic, len(read), row.Record.Time)
			if err != nil {
				return fmt.Errorf("offsets by time: %w", err)
			}
			what := fmt.Sprintf("offset at the time of partition %d offset %d", partition, row.Offset)
			if err := expect(what, found[partition], row.Offset); err != nil {
				return err
			}
		}
	}
	found, err := m.client.Offsets(m.ctx, topic, len(read), time.Now().UnixMilli())
	if err != nil {
		return fmt.Errorf("offsets by time: %w", err)
	}
	return expect("offsets after the last record", found, []int64{none, none, none, none})
}

func (m matrix) describe() (int, error) {
	topic := topicName(m.name, "admin")
	if err := m.create(topic, partitionCount, nil); err != nil {
		return 0, err
	}
	described, err := m.client.Describe(m.ctx, topic)
	if err != nil {
		return 0, err
	}
	brokers, err := m.client.Brokers(m.ctx)
	if err != nil {
		return 0, err
	}
	for i, partition := range described {
		want := Partition{partition.Leader, replication, replication}
		if err := expect(fmt.Sprintf("partition %d", i), partition, want); err != nil {
			return 0, err
		}
		if !brokers[partition.Leader] {
			return 0, fmt.Errorf("leader %d is not among the brokers %v", partition.Leader, brokers)
		}
	}
	if err := m.listed(topic, true); err != nil {
		return 0, err
	}
	again := m.client.Create(m.ctx, topic, partitionCount, nil)
	if err := m.expectCode("create twice", codeTopicExists, again); err != nil {
		return 0, err
	}
	if err := m.client.Delete(m.ctx, topic); err != nil {
		return 0, fmt.Errorf("delete: %w", err)
	}
	if err := eventually(func() error { return m.listed(topic, false) }); err != nil {
		return 0, err
	}
	return 6, m.expectCode("delete twice", codeUnknownTopic, m.client.Delete(m.ctx, topic))
}

func (m matrix) listed(topic string, want bool) error {
	topics, err := m.client.Topics(m.ctx)
	if err != nil {
		return err
	}
	return expect("listed "+topic, topics[topic], want)
}

func (m matrix) configs() (int, error) {
	topic := topicName(m.name, "config")
	set := map[string]string{"retention.ms": "86400000", "max.message.bytes": "100000"}
	if err := m.create(topic, 1, set); err != nil {
		return 0, err
	}
	want := map[string]string{"cleanup.policy": "delete", "compression.type": "producer"}
	for key, value := range set {
		want[key] = value
	}
	if err := eventually(func() error { return m.configured(topic, want) }); err != nil {
		return 0, err
	}
	if err := m.client.SetConfig(m.ctx, topic, "retention.ms", "3600000"); err != nil {
		return 0, fmt.Errorf("set retention.ms: %w", err)
	}
	want["retention.ms"] = "3600000"
	if err := eventually(func() error { return m.configured(topic, want) }); err != nil {
		return 0, err
	}
	bad := m.client.SetConfig(m.ctx, topic, "retention.ms", "yesterday")
	if err := m.expectCode("bad value", codeInvalidConfig, bad); err != nil {
		return 0, err
	}
	return 2*len(want) + 1, m.client.Delete(m.ctx, topic)
}

func (m matrix) configured(topic string, want map[string]string) error {
	found, err := m.client.Config(m.ctx, topic)
	if err != nil {
		return err
	}
	for key, value := range want {
		if err := expect(key, found[key], value); err != nil {
			return err
		}
	}
	return nil
}

func (m matrix) partitionsAndRecords() (int, error) {
	topic := topicName(m.name, "records")
	if err := m.create(topic, 1, nil); err != nil {
		return 0, err
	}
	checked, err := m.deleteRecords(topic)
	if err != nil {
		return 0, err
	}
	if err := m.client.AddPartitions(m.ctx, topic, 3); err != nil {
		return 0, fmt.Errorf("add partitions: %w", err)
	}
	if err := eventually(func() error { return m.settled(topic, 3) }); err != nil {
		return 0, err
	}
	shrink := m.client.AddPartitions(m.ctx, topic, 2)
	if err := m.expectCode("shrink", codeInvalidPartitions, shrink); err != nil {
		return 0, err
	}
	return checked + 2, m.client.Delete(m.ctx, topic)
}

func (m matrix) deleteRecords(topic string) (int, error) {
	sent := makeRecords("none", 100)
	if _, err := m.client.Produce(m.ctx, topic, "none", sent); err != nil {
		return 0, fmt.Errorf("produce: %w", err)
	}
	low, err := m.client.DeleteRecords(m.ctx, topic, 0, 40)
	if errors.Is(err, errNoCall) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("delete records: %w", err)
	}
	if err := expect("low watermark", low, int64(40)); err != nil {
		return 0, err
	}
	read, err := m.readAll(topic, 1)
	if err != nil {
		return 0, err
	}
	if err := expect("records left", len(read[0]), 60); err != nil {
		return 0, err
	}
	for i, row := range read[0] {
		if text := difference(row.Record, sent[40+i]); text != "" || row.Offset != int64(40+i) {
			return 0, fmt.Errorf("offset %d, want %d: %s", row.Offset, 40+i, text)
		}
	}
	_, err = m.client.DeleteRecords(m.ctx, topic, 0, 101)
	return 4, m.expectCode("delete past the end", codeOffsetOutOfRange, err)
}

func (m matrix) tooLarge() (int, error) {
	topic := topicName(m.name, "large")
	if err := m.create(topic, 1, map[string]string{"max.message.bytes": "50000"}); err != nil {
		return 0, err
	}
	now := time.Now().UnixMilli()
	big := Record{Key: []byte("big"), Value: make([]byte, 60_000), Time: now}
	_, err := m.client.Produce(m.ctx, topic, "none", []Record{big})
	if err := m.expectCode("60,000 bytes", codeMessageTooLarge, err); err != nil {
		return 0, err
	}
	small := Record{Key: []byte("small"), Value: []byte("fits"), Time: now}
	if err := m.writeAndRead(topic, small); err != nil {
		return 0, err
	}
	topic = topicName(m.name, "large")
	if err := m.create(topic, 1, nil); err != nil {
		return 0, err
	}
	return 3, m.writeAndRead(topic, Record{Key: []byte("large"), Value: make([]byte, maxMessage-1000), Time: now})
}

func (m matrix) writeAndRead(topic string, record Record) error {
	if _, err := m.client.Produce(m.ctx, topic, "none", []Record{record}); err != nil {
		return fmt.Errorf("produce %d bytes: %w", len(record.Value), err)
	}
	read, err := m.readAll(topic, 1)
	if err != nil {
		return err
	}
	if err := expect("records read", len(read[0]), 1); err != nil {
		return err
	}
	if text := difference(read[0][0].Record, record); text != "" {
		return errors.New(text)
	}
	return m.client.Delete(m.ctx, topic)
}

func (m matrix) unknownTopic() (int, error) {
	topic := topicName(m.name, "absent")
	_, err := m.client.Describe(m.ctx, topic)
	if err := m.expectCode("describe", codeUnknownTopic, err); err != nil {
		return 0, err
	}
	_, err = m.client.Config(m.ctx, topic)
	if err := m.expectCode("describe configs", codeUnknownTopic, err); err != nil {
		return 0, err
	}
	return 3, m.expectCode("add partitions", codeUnknownTopic, m.client.AddPartitions(m.ctx, topic, 9))
}
