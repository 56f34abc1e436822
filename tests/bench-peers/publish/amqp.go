// RabbitMQ and Flotilla: one quorum queue with publisher confirms, persistent messages.

package main

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type amqpQueue struct {
	connection *amqp.Connection
	channel    *amqp.Channel
	name       string
}

type amqpConfirmation struct{ deferred *amqp.DeferredConfirmation }

func (c amqpConfirmation) Wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	acked, err := c.deferred.WaitContext(ctx)
	if err == nil && !acked {
		err = fmt.Errorf("the broker refused a message")
	}
	return err
}

func openAmqp(o options, number int) (Queue, error) {
	connection, err := amqp.Dial(o.urls[number%len(o.urls)])
	if err != nil {
		return nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("bench-%d-%d", time.Now().UnixNano(), number)
	arguments := amqp.Table{"x-queue-type": "quorum", "x-quorum-initial-group-size": o.replicas}
	if _, err = channel.QueueDeclare(name, true, false, false, false, arguments); err != nil {
		return nil, err
	}
	return &amqpQueue{connection, channel, name}, channel.Confirm(false)
}

func (q *amqpQueue) Publish(body []byte) (Confirmation, error) {
	message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}
	deferred, err := q.channel.PublishWithDeferredConfirm("", q.name, false, false, message)
	return amqpConfirmation{deferred}, err
}

func (q *amqpQueue) Close() {
	q.channel.QueueDelete(q.name, false, false, false)
	q.connection.Close()
}
