// segmentio/kafka-go behind Client: its Writer (Transport), its Reader (Conn) and its admin requests.

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

type kafkaGo struct {
	client *kafka.Client
}

func newKafkaGo() *kafkaGo {
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	return &kafkaGo{&kafka.Client{Addr: kafka.TCP(bootstrap...), Timeout: 20 * time.Second, Transport: transport}}
}

var kafkaGoCodecs = map[string]kafka.Compression{
	"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

func (k *kafkaGo) Create(ctx context.Context, topic string, partitions int, config map[string]string) error {
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: replication}
	for key, value := range config {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	response, err := k.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (k *kafkaGo) Delete(ctx context.Context, topic string) error {
	response, err := k.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

// writer gives a Writer with acks=all whose completions are reported to acked.
func (k *kafkaGo) writer(topic, codec string, acked func([]kafka.Message, error)) *kafka.Writer {
	return &kafka.Writer{
		Addr:         k.client.Addr,
		Transport:    k.client.Transport,
		Topic:        topic,
		Balancer:     &kafka.Hash{},
		RequiredAcks: kafka.RequireAll,
		Compression:  kafkaGoCodecs[codec],
		BatchTimeout: 5 * time.Millisecond,
		BatchBytes:   4 * maxMessage,
		Completion:   acked,
	}
}

func (k *kafkaGo) Produce(ctx context.Context, topic, codec string, records []Record) ([]Place, error) {
	acks := make(chan []kafka.Message, len(records))
	writer := k.writer(topic, codec, func(messages []kafka.Message, err error) {
		if err == nil {
			acks <- messages
		}
	})
	defer writer.Close()
	messages := make([]kafka.Message, len(records))
	for i, record := range records {
		messages[i] = kafka.Message{
			Key: record.Key, Value: record.Value, Time: time.UnixMilli(record.Time), WriterData: i,
		}
		for _, header := range record.Headers {
			messages[i].Headers = append(messages[i].Headers, kafka.Header(header))
		}
	}
	for start := 0; start < len(messages); start += 1000 {
		err := writer.WriteMessages(ctx, messages[start:min(start+1000, len(messages))]...)
		var each kafka.WriteErrors
		if errors.As(err, &each) {
			for _, one := range each {
				if one != nil {
					return nil, one
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return collectPlaces(acks, len(records))
}

func collectPlaces(acks chan []kafka.Message, count int) ([]Place, error) {
	places := make([]Place, count)
	for seen := 0; seen < count; {
		select {
		case messages := <-acks:
			for _, message := range messages {
				places[message.WriterData.(int)] = Place{message.Partition, message.Offset}
			}
			seen += len(messages)
		case <-time.After(10 * time.Second):
			return nil, fmt.Errorf("%d of %d records acknowledged", seen, count)
		}
	}
	return places, nil
}

func (k *kafkaGo) Read(ctx context.Context, topic string, starts, ends []int64) ([][]Row, error) {
	read := make([][]Row, len(ends))
	for partition := range ends {
		rows, err := k.readPartition(ctx, topic, partition, starts[partition], ends[partition])
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", partition, err)
		}
		read[partition] = rows
	}
	return read, nil
}

func (k *kafkaGo) readPartition(ctx context.Context, topic string, partition int, start, end int64) ([]Row, error) {
	if start >= end {
		return nil, nil
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: bootstrap, Topic: topic, Partition: partition, MaxBytes: 10 * maxMessage, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(start); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var rows []Row
	for next := start; next < end; next++ {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("at offset %d of %d: %w", next, end, err)
		}
		record := Record{Key: message.Key, Value: message.Value, Time: message.Time.UnixMilli()}
		for _, header := range message.Headers {
			record.Headers = append(record.Headers, Header(header))
		}
		rows = append(rows, Row{message.Offset, record})
	}
	return rows, nil
}

func (k *kafkaGo) Offsets(ctx context.Context, topic string, partitions int, at int64) ([]int64, error) {
	wanted := make([]kafka.OffsetRequest, partitions)
	for p := range wanted {
		wanted[p] = kafka.OffsetRequest{Partition: p, Timestamp: at}
	}
	request := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: wanted}}
	response, err := k.client.ListOffsets(ctx, request)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, partitions)
	for _, found := range response.Topics[topic] {
		if found.Error != nil {
			return nil, found.Error
		}
		offsets[found.Partition] = offsetIn(found, at)
	}
	return offsets, nil
}

func offsetIn(found kafka.PartitionOffsets, at int64) int64 {
	switch at {
	case earliest:
		return found.FirstOffset
	case latest:
		return found.LastOffset
	}
	for offset := range found.Offsets {
		return offset
	}
	return none
}

func (k *kafkaGo) metadata(ctx context.Context, topics ...string) (*kafka.MetadataResponse, error) {
	return k.client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
}

func (k *kafkaGo) Topics(ctx context.Context) (map[string]bool, error) {
	response, err := k.metadata(ctx)
	if err != nil {
		return nil, err
	}
	topics := map[string]bool{}
	for _, topic := range response.Topics {
		topics[topic.Name] = true
	}
	return topics, nil
}

func (k *kafkaGo) Describe(ctx context.Context, topic string) ([]Partition, error) {
	response, err := k.metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	found := response.Topics[0]
	if found.Error != nil {
		return nil, found.Error
	}
	described := make([]Partition, len(found.Partitions))
	for _, partition := range found.Partitions {
		if partition.Error != nil {
			return nil, partition.Error
		}
		described[partition.ID] = Partition{partition.Leader.ID, len(partition.Replicas), len(partition.Isr)}
	}
	return described, nil
}

func (k *kafkaGo) Brokers(ctx context.Context) (map[int]bool, error) {
	response, err := k.metadata(ctx)
	if err != nil {
		return nil, err
	}
	brokers := map[int]bool{}
	for _, broker := range response.Brokers {
		brokers[broker.ID] = true
	}
	return brokers, nil
}

func (k *kafkaGo) Config(ctx context.Context, topic string) (map[string]string, error) {
	wanted := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	response, err := k.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{wanted},
	})
	if err != nil {
		return nil, err
	}
	if len(response.Resources) != 1 {
		return nil, fmt.Errorf("%d resources described, want 1", len(response.Resources))
	}
	config := map[string]string{}
	for _, entry := range response.Resources[0].ConfigEntries {
		config[entry.ConfigName] = entry.ConfigValue
	}
	return config, response.Resources[0].Error
}

func (k *kafkaGo) SetConfig(ctx context.Context, topic, key, value string) error {
	response, err := k.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic,
			ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{
				{Name: key, Value: value, ConfigOperation: kafka.ConfigOperationSet},
			},
		}},
	})
	if err != nil {
		return err
	}
	return response.Resources[0].Error
}

func (k *kafkaGo) AddPartitions(ctx context.Context, topic string, total int) error {
	response, err := k.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(total)}},
	})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (k *kafkaGo) DeleteRecords(context.Context, string, int, int64) (int64, error) {
	return 0, errNoCall
}

func (k *kafkaGo) ErrorCode(err error) int {
	var code kafka.Error
	var tooLarge kafka.MessageTooLargeError
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &tooLarge):
		return codeMessageTooLarge
	}
	return 0
}
