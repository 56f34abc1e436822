// A member of a group for python/group.py: `clients member kafka-go|franz-go GROUP TOPIC classic|consumer`. Prints what it got
// and what it has committed, and leaves when its input ends.

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

const sessionTimeout = 20 * time.Second

func memberCommand(arguments []string) int {
	if len(arguments) != 4 {
		fail(usage)
	}
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		leave()
	}()
	member := franzMember
	if arguments[0] == "kafka-go" {
		member = kafkaGoMember
	}
	if err := member(ctx, arguments[1], arguments[2], arguments[3]); err != nil {
		fmt.Printf("# %v\n", err)
		return 1
	}
	return 0
}

func franzMember(ctx context.Context, group, topic, protocol string) error {
	if protocol == "consumer" {
		ctx = context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true)
	}
	client, err := newKgo(kgo.WithContext(context.WithoutCancel(ctx)), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(time.Second), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(os.Stdout)
	for ctx.Err() == nil {
		polling, done := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := client.PollFetches(polling)
		done()
		ends := map[int32]int64{}
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Fprintf(out, "got %d %d\n", record.Partition, record.Offset)
			ends[record.Partition] = record.Offset + 1
		})
		out.Flush()
		if len(ends) == 0 {
			continue
		}
		if err := client.CommitRecords(context.Background(), fetches.Records()...); err != nil {
			fmt.Printf("# %v\n", err) // a rebalance came between: others read it again
			continue
		}
		for partition, end := range ends {
			fmt.Fprintf(out, "committed %d %d\n", partition, end)
		}
		out.Flush()
	}
	return nil
}

func kafkaGoMember(ctx context.Context, group, topic, _ string) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: bootstrap, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
		SessionTimeout: sessionTimeout, RebalanceTimeout: sessionTimeout, HeartbeatInterval: time.Second,
	})
	for {
		message, err := reader.FetchMessage(ctx)
		if errors.Is(err, context.Canceled) {
			return reader.Close()
		}
		if err != nil {
			return err
		}
		fmt.Printf("got %d %d\n", message.Partition, message.Offset)
		if err := reader.CommitMessages(context.Background(), message); err != nil {
			fmt.Printf("# %v\n", err)
			continue
		}
		fmt.Printf("committed %d %d\n", message.Partition, message.Offset+1)
	}
}
