// twmb/franz-go behind Client: an idempotent producer, a consumer of assigned partitions, and kadm.

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct {
	admin *kadm.Client
}

func newFranz() (*franz, error) {
	client, err := newKgo()
	if err != nil {
		return nil, err
	}
	return &franz{kadm.NewClient(client)}, nil
}

// newKgo makes a client that learns of a new topic or leader within 100 ms.
func newKgo(options ...kgo.Opt) (*kgo.Client, error) {
	common := []kgo.Opt{
		kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(4 * maxMessage),
	}
	return kgo.NewClient(append(common, options...)...)
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func (f *franz) Create(ctx context.Context, topic string, partitions int, config map[string]string) error {
	wanted := map[string]*string{}
	for key, value := range config {
		wanted[key] = kadm.StringPtr(value)
	}
	_, err := f.admin.CreateTopic(ctx, int32(partitions), int16(replication), wanted, topic)
	return err
}

func (f *franz) Delete(ctx context.Context, topic string) error {
	_, err := f.admin.DeleteTopic(ctx, topic)
	return err
}

func (f *franz) Produce(ctx context.Context, topic, codec string, records []Record) ([]Place, error) {
	client, err := newKgo(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(franzCodecs[codec]))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	wanted := make([]*kgo.Record, len(records))
	for i, record := range records {
		wanted[i] = &kgo.Record{Key: record.Key, Value: record.Value, Timestamp: time.UnixMilli(record.Time)}
		for _, header := range record.Headers {
			wanted[i].Headers = append(wanted[i].Headers, kgo.RecordHeader(header))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := client.ProduceSync(ctx, wanted...).FirstErr(); err != nil {
		return nil, err
	}
	places := make([]Place, len(records))
	for i, record := range wanted {
		places[i] = Place{int(record.Partition), record.Offset}
	}
	return places, nil
}

func (f *franz) Read(ctx context.Context, topic string, starts, ends []int64) ([][]Row, error) {
	assigned, left := map[int32]kgo.Offset{}, int64(0)
	for partition := range ends {
		assigned[int32(partition)] = kgo.NewOffset().At(starts[partition])
		left += ends[partition] - starts[partition]
	}
	client, err := newKgo(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: assigned}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	read := make([][]Row, len(ends))
	for left > 0 {
		fetches := client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			return nil, fmt.Errorf("partition %d, %d records to come: %w", failed.Partition, left, failed.Err)
		}
		fetches.EachRecord(func(fetched *kgo.Record) {
			record := Record{Key: fetched.Key, Value: fetched.Value, Time: fetched.Timestamp.UnixMilli()}
			for _, header := range fetched.Headers {
				record.Headers = append(record.Headers, Header(header))
			}
			read[fetched.Partition] = append(read[fetched.Partition], Row{fetched.Offset, record})
			left--
		})
	}
	return read, nil
}

func (f *franz) Offsets(ctx context.Context, topic string, partitions int, at int64) ([]int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch at {
	case earliest:
		listed, err = f.admin.ListStartOffsets(ctx, topic)
	case latest:
		listed, err = f.admin.ListEndOffsets(ctx, topic)
	default:
		listed, err = f.admin.ListOffsetsAfterMilli(ctx, at, topic)
	}
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, partitions)
	for p := range offsets {
		found, ok := listed.Lookup(topic, int32(p))
		if !ok {
			return nil, fmt.Errorf("no answer for partition %d", p)
		}
		offsets[p] = found.Offset
		if at >= 0 && found.Timestamp < 0 { // kadm gives the end offset where no record is that new
			offsets[p] = none
		}
	}
	return offsets, nil
}

func (f *franz) Topics(ctx context.Context) (map[string]bool, error) {
	listed, err := f.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	topics := map[string]bool{}
	for _, name := range listed.Names() {
		topics[name] = true
	}
	return topics, nil
}

func (f *franz) Describe(ctx context.Context, topic string) ([]Partition, error) {
	listed, err := f.admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := listed[topic].Err; err != nil {
		return nil, err
	}
	described := make([]Partition, len(listed[topic].Partitions))
	for _, partition := range listed[topic].Partitions.Sorted() {
		if partition.Err != nil {
			return nil, partition.Err
		}
		described[partition.Partition] = Partition{
			int(partition.Leader), len(partition.Replicas), len(partition.ISR),
		}
	}
	return described, nil
}

func (f *franz) Brokers(ctx context.Context) (map[int]bool, error) {
	metadata, err := f.admin.BrokerMetadata(ctx)
	if err != nil {
		return nil, err
	}
	brokers := map[int]bool{}
	for _, id := range metadata.Brokers.NodeIDs() {
		brokers[int(id)] = true
	}
	return brokers, nil
}

func (f *franz) Config(ctx context.Context, topic string) (map[string]string, error) {
	described, err := f.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	resource, err := described.On(topic, nil)
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	for _, entry := range resource.Configs {
		config[entry.Key] = entry.MaybeValue()
	}
	return config, resource.Err
}

func (f *franz) SetConfig(ctx context.Context, topic, key, value string) error {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value}
	altered, err := f.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err != nil {
		return err
	}
	response, err := altered.On(topic, nil)
	if err != nil {
		return err
	}
	return response.Err
}

func (f *franz) AddPartitions(ctx context.Context, topic string, total int) error {
	created, err := f.admin.UpdatePartitions(ctx, total, topic)
	if err != nil {
		return err
	}
	return created.Error()
}

func (f *franz) DeleteRecords(ctx context.Context, topic string, partition int, before int64) (int64, error) {
	wanted := kadm.Offsets{}
	wanted.Add(kadm.Offset{Topic: topic, Partition: int32(partition), At: before})
	deleted, err := f.admin.DeleteRecords(ctx, wanted)
	if err != nil {
		return 0, err
	}
	if err := deleted.Error(); err != nil {
		return 0, err
	}
	response, _ := deleted.Lookup(topic, int32(partition))
	return response.LowWatermark, nil
}

func (f *franz) ErrorCode(err error) int {
	var code *kerr.Error
	if errors.As(err, &code) {
		return int(code.Code)
	}
	return 0
}
