// Produces with acks=all while somebody else stops nodes, then reads everything back: each acknowledged record must be
// there, at its acknowledged offset, once. A record without an acknowledgement may be there or not.
// Prints `producing TOPIC` after the first acknowledgement and the longest silence of any one partition in ms.

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

const window = 64 // records in flight for each producer

// failover is one run: its options and what the producers saw.
type failover struct {
	name       string
	client     Client
	topic      string
	partitions int
	producers  int
	rate       int
	exactlyOne bool

	mu         sync.Mutex
	acked      map[string]Place
	failed     int
	firstError string
	lastAck    []time.Time
	gap        time.Duration
	gapEnd     time.Time
	gapPlace   Place
	log        *bufio.Writer
}

func failoverCommand(arguments []string) int {
	if len(arguments) == 0 {
		fail(usage)
	}
	flags := flag.NewFlagSet("failover", flag.ExitOnError)
	seconds := flags.Int("seconds", 10, "how long to produce; 0: until standard input ends")
	partitions := flags.Int("partitions", 6, "partitions of the topic")
	producers := flags.Int("producers", 4, "concurrent producers")
	rate := flags.Int("rate", 0, "records a second of each producer; 0: as many as go")
	logFile := flags.String("log", "", "file for a line `partition offset value` of each acknowledgement")
	_ = flags.Parse(arguments[1:])
	client, module, err := newClient(arguments[0])
	if err != nil {
		fail(err.Error())
	}
	run := &failover{
		name: arguments[0], client: client, topic: topicName(arguments[0], "failover"),
		partitions: *partitions, producers: *producers, rate: *rate, exactlyOne: arguments[0] == "franz-go",
		acked: map[string]Place{}, lastAck: make([]time.Time, *partitions),
	}
	if *logFile != "" {
		file, err := os.Create(*logFile)
		if err != nil {
			fail(err.Error())
		}
		defer file.Close()
		run.log = bufio.NewWriter(file)
		defer run.log.Flush()
	}
	version := moduleVersion(module)
	producing, enough := context.WithCancel(context.Background())
	time.AfterFunc(time.Duration(*seconds)*time.Second, func() {
		if *seconds == 0 {
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
		enough()
		time.AfterFunc(timeLimit, func() {
			fmt.Printf("FAIL %s %s failover: not done %v after the last record\n", run.name, version, timeLimit)
			os.Exit(1)
		})
	})
	text, err := run.run(producing)
	if err != nil {
		fmt.Printf("FAIL %s %s failover: %v\n", run.name, version, err)
		return 1
	}
	fmt.Printf("ok %s %s failover %s\n", run.name, version, text)
	return 0
}

// run produces until `producing` is done, then reads back.
func (f *failover) run(producing context.Context) (string, error) {
	ctx := context.Background()
	m := matrix{f.name, f.client, ctx}
	if err := m.create(f.topic, f.partitions, nil); err != nil {
		return "", err
	}
	start := time.Now()
	produce := f.produceFranz
	if f.name == "kafka-go" {
		produce = f.produceKafkaGo
	}
	var group sync.WaitGroup
	for producer := range f.producers {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := produce(producing, producer); err != nil {
				fmt.Fprintf(os.Stderr, "producer %d: %v\n", producer, err)
			}
		}()
	}
	group.Wait()
	produced := time.Since(start)
	var read [][]Row
	err := f.retry(60*time.Second, func() (err error) {
		read, err = m.readAll(f.topic, f.partitions)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read back: %w", err)
	}
	duplicates, err := f.verify(read)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("acked=%d unacked=%d duplicates=%d seconds=%.1f gap_ms=%d gap_partition=%d gap_end_s=%.1f%s",
		len(f.acked), f.failed, duplicates, produced.Seconds(), f.gap.Milliseconds(),
		f.gapPlace.Partition, f.gapEnd.Sub(start).Seconds(), f.firstError), nil
}

func (f *failover) retry(limit time.Duration, run func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		if err := run(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// note takes down the outcome of one record.
func (f *failover) note(value string, place Place, err error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if f.failed++; f.failed == 1 {
			f.firstError = fmt.Sprintf(" first_error=%q", value+": "+err.Error())
		}
		return
	}
	if len(f.acked) == 0 {
		fmt.Printf("producing %s\n", f.topic)
	}
	f.acked[value] = place
	if last := f.lastAck[place.Partition]; !last.IsZero() && now.Sub(last) > f.gap {
		f.gap, f.gapEnd, f.gapPlace = now.Sub(last), now, place
	}
	f.lastAck[place.Partition] = now
	if f.log != nil {
		fmt.Fprintf(f.log, "%d %d %s\n", place.Partition, place.Offset, value)
	}
}

// pace gives a function that returns when the next record is due.
func (f *failover) pace() func() {
	if f.rate == 0 {
		return func() {}
	}
	ticks := time.NewTicker(time.Second / time.Duration(f.rate))
	return func() { <-ticks.C }
}

// produceFranz keeps `window` records in flight with an idempotent producer until `producing` is done.
func (f *failover) produceFranz(producing context.Context, producer int) error {
	client, err := newKgo(kgo.DefaultProduceTopic(f.topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.RequestRetries(1000), kgo.RetryTimeout(time.Minute), kgo.ProducerLinger(time.Millisecond),
		kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(2*time.Second), kgo.ProduceRequestTimeout(5*time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, slots, pace := context.Background(), make(chan struct{}, window), f.pace()
	for number := 0; producing.Err() == nil; number++ {
		slots <- struct{}{}
		pace()
		value := fmt.Sprintf("%d-%d", producer, number)
		client.Produce(ctx, &kgo.Record{Value: []byte(value)}, func(record *kgo.Record, err error) {
			f.note(value, Place{int(record.Partition), record.Offset}, err)
			<-slots
		})
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return client.Flush(ctx)
}

// produceKafkaGo writes `window` records at a time until `producing` is done. kafka-go is not idempotent: its own
// retries may write a record twice, so only the acknowledged place of each record is certain.
func (f *failover) produceKafkaGo(producing context.Context, producer int) error {
	transport := &kafka.Transport{MetadataTTL: 200 * time.Millisecond, DialTimeout: time.Second}
	writer := newKafkaGo().writer(f.topic, "none", func(messages []kafka.Message, err error) {
		for _, message := range messages {
			f.note(message.WriterData.(string), Place{message.Partition, message.Offset}, err)
		}
	})
	writer.Transport, writer.Balancer = transport, &kafka.RoundRobin{}
	writer.MaxAttempts, writer.WriteBackoffMax = 100, 200*time.Millisecond
	writer.WriteTimeout, writer.ReadTimeout = 5*time.Second, 5*time.Second
	defer writer.Close()
	pace := f.pace()
	for number := 0; producing.Err() == nil; number += window {
		messages := make([]kafka.Message, window)
		for i := range messages {
			pace()
			value := fmt.Sprintf("%d-%d", producer, number+i)
			messages[i] = kafka.Message{Value: []byte(value), WriterData: value}
		}
		if err := writer.WriteMessages(context.Background(), messages...); err != nil {
			time.Sleep(50 * time.Millisecond) // each record's outcome has gone to note
		}
	}
	return nil
}

// verify gives how many records are there more than once; an error where an acknowledged record is not as promised.
func (f *failover) verify(read [][]Row) (int, error) {
	seen, duplicates := map[string]int{}, 0
	for partition, rows := range read {
		for i, row := range rows {
			value := string(row.Record.Value)
			if row.Offset != int64(i) {
				return 0, fmt.Errorf("partition %d: offset %d, want %d: not dense", partition, row.Offset, i)
			}
			if seen[value]++; seen[value] == 2 {
				duplicates++
			}
		}
	}
	for value, place := range f.acked {
		if place.Offset >= int64(len(read[place.Partition])) {
			return 0, fmt.Errorf("LOST: record %s acknowledged at %+v, the partition ends at %d",
				value, place, len(read[place.Partition]))
		}
		if got := string(read[place.Partition][place.Offset].Record.Value); got != value {
			return 0, fmt.Errorf("LOST: at %+v is %q, acknowledged was %s", place, got, value)
		}
	}
	if len(f.acked) == 0 {
		return 0, errors.New("no record was acknowledged")
	}
	if f.exactlyOne && duplicates > 0 {
		return 0, fmt.Errorf("%d records are there twice though the producer is idempotent", duplicates)
	}
	return duplicates, nil
}
