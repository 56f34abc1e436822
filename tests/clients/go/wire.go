// Requests that no client library would send, and the error code that Apache Kafka gives to each; the codes below were
// all seen from Kafka 4.3. Sends them with franz-go's raw requests to the leader of a one-partition topic.

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	batchHeadBytes = 61
	crcAt          = 17
	attributesAt   = 21
)

// wire is a topic of one partition and the connection to its leader.
type wire struct {
	ctx    context.Context
	client *kgo.Client
	admin  *kadm.Client
	topic  string
	id     [16]byte
	leader int32
	epoch  int32
}

// wireCase is one request and the code Kafka answers with.
type wireCase struct {
	name string
	want int16
	send func(*wire) (int16, error)
}

func wireCases() []wireCase {
	return []wireCase{
		{"produce/good", 0, func(w *wire) (int16, error) { return w.produce(batch(nil)) }},
		{"produce/crc", 2, func(w *wire) (int16, error) { return w.produce(flip(batch(nil))) }},
		{"produce/magic-0", 87, func(w *wire) (int16, error) { return w.produce(oldMagic(0)) }},
		{"produce/magic-1", 87, func(w *wire) (int16, error) { return w.produce(oldMagic(1)) }},
		{"produce/magic-3", 2, func(w *wire) (int16, error) { return w.produce(oldMagic(3)) }},
		{"produce/cut", 87, func(w *wire) (int16, error) { b := batch(nil); return w.produce(b[:len(b)-4]) }},
		{"produce/two-batches", 87, func(w *wire) (int16, error) { return w.produce(append(batch(nil), batch(nil)...)) }},
		{"produce/empty", 87, func(w *wire) (int16, error) { return w.produce([]byte{}) }},
		{"produce/control-bit", 87, func(w *wire) (int16, error) {
			return w.produce(batch(func(b *kmsg.RecordBatch) { b.Attributes = 0x20 }))
		}},
		{"produce/count", 87, func(w *wire) (int16, error) {
			return w.produce(batch(func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 7 }))
		}},
		{"produce/no-records", 87, func(w *wire) (int16, error) {
			return w.produce(batch(func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta, b.Records = 0, -1, nil }))
		}},
		{"produce/no-partition", 3, func(w *wire) (int16, error) { return w.produceTo(99, batch(nil)) }},
		{"produce/no-topic-id", 100, func(w *wire) (int16, error) { return w.stranger().produceAny() }},
		{"produce/not-leader", 6, func(w *wire) (int16, error) { return w.elsewhere((*wire).produceAny) }},
		{"idempotent/in-order", 0, func(w *wire) (int16, error) { return w.sequences(0, 1, 2) }},
		{"idempotent/repeated", 0, func(w *wire) (int16, error) { return w.sequences(0, 1, 1) }},
		{"idempotent/repeated-old", 45, func(w *wire) (int16, error) { return w.sequences(0, 1, 2, 3, 4, 5, 6, 0) }},
		{"idempotent/gap", 45, func(w *wire) (int16, error) { return w.sequences(0, 2) }},
		{"idempotent/old-epoch", 47, func(w *wire) (int16, error) { return w.oldEpoch() }},
		{"fetch/good", 0, func(w *wire) (int16, error) { return w.fetch(0, -1) }},
		{"fetch/past-the-end", 1, func(w *wire) (int16, error) { return w.fetch(1<<40, -1) }},
		{"fetch/negative", 1, func(w *wire) (int16, error) { return w.fetch(-5, -1) }},
		{"fetch/epoch-ahead", 75, func(w *wire) (int16, error) { return w.fetch(0, w.epoch+10) }},
		{"fetch/no-topic-id", 100, func(w *wire) (int16, error) { return w.stranger().fetch(0, -1) }},
		{"fetch/no-session", 70, func(w *wire) (int16, error) { return w.fetchSession(4711, 3) }},
		{"offsets/epoch-ahead", 75, func(w *wire) (int16, error) { return w.listOffsets(0, w.epoch+10) }},
		{"offsets/no-partition", 3, func(w *wire) (int16, error) { return w.listOffsets(99, -1) }},
		{"offsets/not-leader", 6, func(w *wire) (int16, error) { return w.elsewhere((*wire).listOffsetsAny) }},
		{"epoch-end/now", 0, func(w *wire) (int16, error) { return w.epochEnd(w.topic, w.epoch) }},
		{"epoch-end/ahead", 75, func(w *wire) (int16, error) { return w.epochEnd(w.topic, w.epoch+10) }},
		{"epoch-end/no-topic", 3, func(w *wire) (int16, error) { return w.epochEnd(w.topic+"-absent", 0) }},
		{"topics/twice-in-one", 42, func(w *wire) (int16, error) { return w.createTwice() }},
		{"topics/bad-assignment", 39, func(w *wire) (int16, error) { return w.createAssigned(1_000_000) }},
	}
}

func wireCommand() int {
	report := newReport("wire", "github.com/twmb/franz-go")
	w, err := newWire()
	if err != nil {
		report.check("start", func() (int, error) { return 0, err })
		return 1
	}
	for _, one := range wireCases() {
		report.check(one.name, func() (int, error) {
			got, err := one.send(w)
			if errors.Is(err, errNoCall) {
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			if got != one.want {
				return 0, fmt.Errorf("got %d (%v), want %d (%v)", got, kerr.ErrorForCode(got), one.want, kerr.ErrorForCode(one.want))
			}
			return 1, nil
		})
	}
	w.versionChecks(report)
	_, _ = w.admin.DeleteTopics(w.ctx, w.topic)
	if report.failed {
		return 1
	}
	return 0
}

func newWire() (*wire, error) {
	client, err := newKgo()
	if err != nil {
		return nil, err
	}
	w := &wire{ctx: context.Background(), client: client, admin: kadm.NewClient(client), topic: topicName("wire", "raw")}
	if _, err := w.admin.CreateTopic(w.ctx, 1, int16(replication), nil, w.topic); err != nil {
		return nil, err
	}
	return w, eventually(func() error {
		listed, err := w.admin.ListTopics(w.ctx, w.topic)
		if err != nil {
			return err
		}
		detail := listed[w.topic]
		partition, ok := detail.Partitions[0]
		if detail.Err != nil || !ok || partition.Leader < 0 {
			return fmt.Errorf("%s has no leader: %v", w.topic, detail.Err)
		}
		w.id, w.leader, w.epoch = detail.ID, partition.Leader, partition.LeaderEpoch
		return nil
	})
}

// batch makes a good batch of one record; change may spoil its head before the checksum is taken.
func batch(change func(*kmsg.RecordBatch)) []byte {
	now := time.Now().UnixMilli()
	record := kmsg.Record{Key: []byte("key"), Value: []byte("value")}
	body := record.AppendTo(nil)[1:] // without its length, one byte while it is 0
	head := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
		Records: append(kbin.AppendVarint(nil, int32(len(body))), body...),
	}
	if change != nil {
		change(&head)
	}
	raw := head.AppendTo(nil)
	raw = append(raw[:batchHeadBytes], head.Records...)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	sum := crc32.Checksum(raw[attributesAt:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(raw[crcAt:], sum)
	return raw
}

func flip(raw []byte) []byte {
	raw[len(raw)-3] ^= 1
	return raw
}

func oldMagic(magic byte) []byte {
	raw := batch(nil)
	raw[16] = magic
	return raw
}

// stranger is the same wire for a topic nobody has.
func (w *wire) stranger() *wire {
	other := *w
	other.topic, other.id = w.topic+"-absent", [16]byte{1, 2, 3}
	return &other
}

// elsewhere sends to a node that does not lead the partition.
func (w *wire) elsewhere(send func(*wire) (int16, error)) (int16, error) {
	brokers, err := w.admin.ListBrokers(w.ctx)
	if err != nil {
		return 0, err
	}
	for _, node := range brokers.NodeIDs() {
		if node != w.leader {
			other := *w
			other.leader = node
			return send(&other)
		}
	}
	return 0, errNoCall // a cluster of one node
}

func (w *wire) produceAny() (int16, error)     { return w.produce(batch(nil)) }
func (w *wire) listOffsetsAny() (int16, error) { return w.listOffsets(0, -1) }

func (w *wire) send(request kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	return w.client.Broker(int(w.leader)).Request(ctx, request)
}

func (w *wire) produce(raw []byte) (int16, error) { return w.produceTo(0, raw) }

func (w *wire) produceRequest(partition int32, raw []byte) *kmsg.ProduceRequest {
	wanted := kmsg.NewProduceRequestTopicPartition()
	wanted.Partition, wanted.Records = partition, raw
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID = w.topic, w.id
	topic.Partitions = append(topic.Partitions, wanted)
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 5_000
	request.Topics = append(request.Topics, topic)
	return request
}

func (w *wire) produceTo(partition int32, raw []byte) (int16, error) {
	response, err := w.send(w.produceRequest(partition, raw))
	if err != nil {
		return 0, err
	}
	return response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, nil
}

func (w *wire) producer() (int64, int16, error) {
	request := kmsg.NewPtrInitProducerIDRequest()
	response, err := w.send(request)
	if err != nil {
		return 0, 0, err
	}
	got := response.(*kmsg.InitProducerIDResponse)
	return got.ProducerID, got.ProducerEpoch, kerr.ErrorForCode(got.ErrorCode)
}

// sequences sends one batch for each sequence number with a new producer and gives the last one's code.
func (w *wire) sequences(numbers ...int32) (int16, error) {
	id, epoch, err := w.producer()
	if err != nil {
		return 0, err
	}
	var code int16
	for i, number := range numbers {
		code, err = w.produceAs(id, epoch, number)
		if err != nil {
			return 0, err
		}
		if code != 0 && i < len(numbers)-1 {
			return 0, fmt.Errorf("sequence %d: %w", number, kerr.ErrorForCode(code))
		}
	}
	return code, nil
}

func (w *wire) produceAs(id int64, epoch int16, sequence int32) (int16, error) {
	return w.produce(batch(func(b *kmsg.RecordBatch) {
		b.ProducerID, b.ProducerEpoch, b.FirstSequence = id, epoch, sequence
	}))
}

func (w *wire) oldEpoch() (int16, error) {
	id, epoch, err := w.producer()
	if err != nil {
		return 0, err
	}
	if code, err := w.produceAs(id, epoch+1, 0); err != nil || code != 0 {
		return 0, fmt.Errorf("newer epoch: code %d, %w", code, err)
	}
	return w.produceAs(id, epoch, 0)
}

func (w *wire) fetchRequest(offset int64, epoch int32) *kmsg.FetchRequest {
	wanted := kmsg.NewFetchRequestTopicPartition()
	wanted.FetchOffset, wanted.CurrentLeaderEpoch, wanted.PartitionMaxBytes = offset, epoch, maxMessage
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = w.topic, w.id
	topic.Partitions = append(topic.Partitions, wanted)
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 100, 1, maxMessage
	request.Topics = append(request.Topics, topic)
	return request
}

func (w *wire) fetch(offset int64, epoch int32) (int16, error) {
	response, err := w.send(w.fetchRequest(offset, epoch))
	if err != nil {
		return 0, err
	}
	got := response.(*kmsg.FetchResponse)
	if got.ErrorCode != 0 {
		return got.ErrorCode, nil
	}
	return got.Topics[0].Partitions[0].ErrorCode, nil
}

func (w *wire) fetchSession(id, epoch int32) (int16, error) {
	request := w.fetchRequest(0, -1)
	request.SessionID, request.SessionEpoch = id, epoch
	response, err := w.send(request)
	if err != nil {
		return 0, err
	}
	return response.(*kmsg.FetchResponse).ErrorCode, nil
}

func (w *wire) listOffsetsRequest(partition, epoch int32) *kmsg.ListOffsetsRequest {
	wanted := kmsg.NewListOffsetsRequestTopicPartition()
	wanted.Partition, wanted.CurrentLeaderEpoch, wanted.Timestamp = partition, epoch, latest
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = w.topic
	topic.Partitions = append(topic.Partitions, wanted)
	request := kmsg.NewPtrListOffsetsRequest()
	request.Topics = append(request.Topics, topic)
	return request
}

func (w *wire) listOffsets(partition, epoch int32) (int16, error) {
	response, err := w.send(w.listOffsetsRequest(partition, epoch))
	if err != nil {
		return 0, err
	}
	return response.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode, nil
}

func (w *wire) epochEndRequest(name string, current int32) *kmsg.OffsetForLeaderEpochRequest {
	wanted := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	wanted.CurrentLeaderEpoch, wanted.LeaderEpoch = current, 0
	topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
	topic.Topic = name
	topic.Partitions = append(topic.Partitions, wanted)
	request := kmsg.NewPtrOffsetForLeaderEpochRequest()
	request.ReplicaID = -1
	request.Topics = append(request.Topics, topic)
	return request
}

func (w *wire) epochEnd(name string, current int32) (int16, error) {
	response, err := w.send(w.epochEndRequest(name, current))
	if err != nil {
		return 0, err
	}
	return response.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0].ErrorCode, nil
}

func (w *wire) create(topics ...kmsg.CreateTopicsRequestTopic) (int16, error) {
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics = topics
	response, err := w.client.Request(w.ctx, request) // goes to the controller
	if err != nil {
		return 0, err
	}
	return response.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, nil
}

func (w *wire) createTwice() (int16, error) {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = topicName("wire", "twice"), 1, 1
	return w.create(topic, topic)
}

// createAssigned asks for a partition on a node that is not there.
func (w *wire) createAssigned(node int32) (int16, error) {
	assigned := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	assigned.Replicas = []int32{node}
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = topicName("wire", "assigned"), -1, -1
	topic.ReplicaAssignment = append(topic.ReplicaAssignment, assigned)
	return w.create(topic)
}
