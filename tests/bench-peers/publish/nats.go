// NATS JetStream: one stream with a file store for each queue.

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const natsPatience = 30 * time.Second

type natsQueue struct {
	connection *nats.Conn
	stream     jetstream.JetStream
	subject    string
}

type natsConfirmation struct{ future jetstream.PubAckFuture }

func (c natsConfirmation) Wait() error {
	select {
	case <-c.future.Ok():
		return nil
	case err := <-c.future.Err():
		return err
	case <-time.After(natsPatience):
		return fmt.Errorf("no confirmation in %v", natsPatience)
	}
}

func openNats(o options, number int) (Queue, error) {
	connection, err := nats.Connect(o.urls[number%len(o.urls)])
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(connection, jetstream.WithPublishAsyncMaxPending(o.window+1))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), natsPatience)
	defer cancel()
	name := fmt.Sprintf("bench-%d-%d", time.Now().UnixNano(), number)
	config := jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage, Replicas: o.replicas}
	if _, err = js.CreateStream(ctx, config); err != nil {
		return nil, err
	}
	return &natsQueue{connection, js, name}, nil
}

func (q *natsQueue) Publish(body []byte) (Confirmation, error) {
	future, err := q.stream.PublishAsync(q.subject, body)
	return natsConfirmation{future}, err
}

func (q *natsQueue) Close() {
	q.stream.DeleteStream(context.Background(), q.subject)
	q.connection.Close()
}
