// rabbitmq/amqp091-go against FLOTILLA_AMQP (amqp://host:port,...): what applications do with queues. Publishers and consumers are connected
// to different nodes. FLOTILLA_PEER=1 leaves out what only Flotilla has, so that the program can be checked against RabbitMQ.

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	queuePatience = 15 * time.Second
	// queueSilence is how long nothing may come where nothing is due.
	queueSilence = 700 * time.Millisecond
)

// queues checks with connections of its own.
type queues struct{ nodes []string }

func queueCommand() int {
	report := newReport("amqp091-go", "github.com/rabbitmq/amqp091-go")
	q := queues{strings.Split(environment("FLOTILLA_AMQP", "amqp://127.0.0.1:5672"), ",")}
	checks := []struct {
		label string
		run   func() (int, error)
	}{
		{"work-queue", q.workQueue}, {"requeue", q.requeue}, {"prefetch", q.prefetch}, {"confirms", q.confirms},
		{"mandatory", q.mandatory}, {"topic-exchange", q.topicExchange}, {"dead-letters", q.deadLetters},
		{"priorities", q.priorities}, {"errors", q.errors}, {"transaction", q.transaction}, {"delayed-retry", q.delayedRetry},
	}
	for _, check := range checks {
		if check.label == "delayed-retry" && os.Getenv("FLOTILLA_PEER") == "1" {
			continue
		}
		report.check(check.label, check.run)
	}
	if report.failed {
		return 1
	}
	return 0
}

// session is a connection with one channel.
type session struct {
	connection *amqp.Connection
	*amqp.Channel
}

func (s session) end() { _ = s.connection.Close() }

func (q queues) session(node int) (session, error) {
	connection, err := amqp.Dial(q.nodes[node%len(q.nodes)] + "/")
	if err != nil {
		return session{}, err
	}
	channel, err := connection.Channel()
	return session{connection, channel}, err
}

// queue declares a durable queue on a new session.
func (q queues) queue(node int, what string, arguments amqp.Table) (session, string, error) {
	s, err := q.session(node)
	if err != nil {
		return s, "", err
	}
	name := topicName("amqp091", what)
	_, err = s.QueueDeclare(name, true, false, false, false, arguments)
	return s, name, err
}

// drop deletes a queue and ends the session.
func (s session) drop(names ...string) error {
	defer s.end()
	for _, name := range names {
		if _, err := s.QueueDelete(name, false, false, false); err != nil {
			return err
		}
	}
	return nil
}

// publish sends to a queue and waits for the confirmation, if the channel confirms.
func (s session) publish(queue string, message amqp.Publishing) error {
	ctx, cancel := context.WithTimeout(context.Background(), queuePatience)
	defer cancel()
	message.DeliveryMode = amqp.Persistent
	confirmation, err := s.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false, message)
	if err != nil || confirmation == nil {
		return err
	}
	if ok, err := confirmation.WaitContext(ctx); err != nil || !ok {
		return fmt.Errorf("not confirmed: %v", err)
	}
	return nil
}

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

func next(deliveries <-chan amqp.Delivery) (amqp.Delivery, error) {
	select {
	case delivery, open := <-deliveries:
		if !open {
			return delivery, fmt.Errorf("the consumer ended")
		}
		return delivery, nil
	case <-time.After(queuePatience):
		return amqp.Delivery{}, fmt.Errorf("no delivery for %v", queuePatience)
	}
}

func same(what string, got, want any) error {
	if got, want := fmt.Sprint(got), fmt.Sprint(want); got != want {
		return fmt.Errorf("%s: got %.300s, want %.300s", what, got, want)
	}
	return nil
}

// workQueue: three workers with prefetch share the work; each message is done once.
func (q queues) workQueue() (int, error) {
	const count = 1000
	s, name, err := q.queue(0, "work", nil)
	if err != nil {
		return 0, err
	}
	done := make(chan int, count)
	var workers sync.WaitGroup
	for node := range 3 {
		worker, err := q.session(node)
		if err != nil {
			return 0, err
		}
		defer worker.end()
		if err := worker.Qos(20, 0, false); err != nil {
			return 0, err
		}
		deliveries, err := worker.Consume(name, "", false, false, false, false, nil)
		if err != nil {
			return 0, err
		}
		workers.Add(1)
		go func() {
			defer workers.Done()
			for delivery := range deliveries {
				var number int
				_, _ = fmt.Sscan(string(delivery.Body), &number)
				_ = delivery.Ack(false)
				done <- number
			}
		}()
	}
	if err := s.Confirm(false); err != nil {
		return 0, err
	}
	confirmations := make([]*amqp.DeferredConfirmation, count)
	for number := range count {
		message := text(fmt.Sprint(number))
		confirmations[number], err = s.PublishWithDeferredConfirm("", name, false, false, message)
		if err != nil {
			return 0, err
		}
	}
	for number, confirmation := range confirmations {
		if !confirmation.Wait() {
			return 0, fmt.Errorf("message %d is refused", number)
		}
	}
	var numbers []int
	for range count {
		select {
		case number := <-done:
			numbers = append(numbers, number)
		case <-time.After(queuePatience):
			return 0, fmt.Errorf("%d of %d done", len(numbers), count)
		}
	}
	slices.Sort(numbers)
	for want, got := range numbers {
		if got != want {
			return 0, fmt.Errorf("message %d done twice, or never", want)
		}
	}
	return count, s.drop(name)
}

// requeue: what is given back comes again, marked, in its place.
func (q queues) requeue() (int, error) {
	s, name, err := q.queue(1, "requeue", nil)
	if err != nil {
		return 0, err
	}
	if err := s.Confirm(false); err != nil {
		return 0, err
	}
	for _, body := range []string{"a", "b"} {
		if err := s.publish(name, text(body)); err != nil {
			return 0, err
		}
	}
	consumer, err := q.session(2)
	if err != nil {
		return 0, err
	}
	defer consumer.end()
	if err := consumer.Qos(1, 0, false); err != nil {
		return 0, err
	}
	deliveries, err := consumer.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	for _, want := range []string{"a false", "a true", "b false"} {
		delivery, err := next(deliveries)
		if err != nil {
			return 0, err
		}
		got := fmt.Sprintf("%s %t", delivery.Body, delivery.Redelivered)
		if err := same("delivery", got, want); err != nil {
			return 0, err
		}
		if want == "a false" {
			err = delivery.Nack(false, true)
		} else {
			err = delivery.Ack(false)
		}
		if err != nil {
			return 0, err
		}
	}
	return 3, s.drop(name)
}

// prefetch: no more than the limit; an acknowledgement lets one more through, and the limit can change.
func (q queues) prefetch() (int, error) {
	s, name, err := q.queue(0, "prefetch", nil)
	if err != nil {
		return 0, err
	}
	for number := range 10 {
		if err := s.publish(name, text(fmt.Sprint(number))); err != nil {
			return 0, err
		}
	}
	consumer, err := q.session(1)
	if err != nil {
		return 0, err
	}
	defer consumer.end()
	if err := consumer.Qos(2, 0, false); err != nil {
		return 0, err
	}
	deliveries, err := consumer.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	var last amqp.Delivery
	for _, more := range []int{2, 1, 2} {
		for range more {
			if last, err = next(deliveries); err != nil {
				return 0, err
			}
		}
		select {
		case delivery := <-deliveries:
			return 0, fmt.Errorf("message %s is one too many", delivery.Body)
		case <-time.After(queueSilence):
		}
		// The first time one, then all: one more comes, then two.
		if err := last.Ack(more == 1); err != nil {
			return 0, err
		}
	}
	return 5, s.drop(name)
}

// confirms: many at a time, each confirmed once.
func (q queues) confirms() (int, error) {
	const count = 2000
	s, name, err := q.queue(2, "confirms", nil)
	if err != nil {
		return 0, err
	}
	if err := s.Confirm(false); err != nil {
		return 0, err
	}
	confirmed := s.NotifyPublish(make(chan amqp.Confirmation, count))
	for range count {
		if _, err := s.PublishWithDeferredConfirm("", name, false, false, text("x")); err != nil {
			return 0, err
		}
	}
	for want := uint64(1); want <= count; want++ {
		select {
		case confirmation := <-confirmed:
			if !confirmation.Ack || confirmation.DeliveryTag != want {
				return 0, fmt.Errorf("confirmation %+v, want %d", confirmation, want)
			}
		case <-time.After(queuePatience):
			return 0, fmt.Errorf("%d of %d confirmed", want-1, count)
		}
	}
	purged, err := s.QueuePurge(name, false)
	if err == nil {
		err = same("purged", purged, count)
	}
	if err != nil {
		return 0, err
	}
	return count, s.drop(name)
}

// mandatory: a message without a queue comes back before it is confirmed.
func (q queues) mandatory() (int, error) {
	s, err := q.session(0)
	if err != nil {
		return 0, err
	}
	defer s.end()
	if err := s.Confirm(false); err != nil {
		return 0, err
	}
	returns := s.NotifyReturn(make(chan amqp.Return, 1))
	confirmation, err := s.PublishWithDeferredConfirm("amq.topic", "nobody", true, false, text("back"))
	if err != nil {
		return 0, err
	}
	if !confirmation.Wait() {
		return 0, fmt.Errorf("a message that came back is refused as well")
	}
	select {
	case returned := <-returns:
		return 1, same("returned", fmt.Sprintf("%d %s %s", returned.ReplyCode, returned.RoutingKey, returned.Body), "312 nobody back")
	case <-time.After(queuePatience):
		return 0, fmt.Errorf("nothing came back")
	}
}

// topicExchange: words, stars and hashes.
func (q queues) topicExchange() (int, error) {
	s, err := q.session(1)
	if err != nil {
		return 0, err
	}
	exchange := topicName("amqp091", "topic")
	if err := s.ExchangeDeclare(exchange, "topic", true, false, false, false, nil); err != nil {
		return 0, err
	}
	patterns := map[string][]string{"*.orange.*": {"quick.orange.rabbit", "lazy.orange.elephant"}, "lazy.#": {"lazy.orange.elephant", "lazy.brown.fox"}}
	named := map[string]string{}
	for pattern := range patterns {
		queue, err := s.QueueDeclare("", false, false, true, false, nil)
		if err != nil {
			return 0, err
		}
		if err := s.QueueBind(queue.Name, pattern, exchange, false, nil); err != nil {
			return 0, err
		}
		named[pattern] = queue.Name
	}
	for _, key := range []string{"quick.orange.rabbit", "lazy.orange.elephant", "lazy.brown.fox", "quick.brown.fox"} {
		if err := s.PublishWithContext(context.Background(), exchange, key, false, false, text(key)); err != nil {
			return 0, err
		}
	}
	for pattern, keys := range patterns {
		deliveries, err := s.Consume(named[pattern], "", true, true, false, false, nil)
		if err != nil {
			return 0, err
		}
		for _, key := range keys {
			delivery, err := next(deliveries)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", pattern, err)
			}
			if err := same(pattern, delivery.RoutingKey+" "+string(delivery.Body), key+" "+key); err != nil {
				return 0, err
			}
		}
	}
	err = s.ExchangeDelete(exchange, false, false)
	s.end()
	return 4, err
}

// deadLetters: what expires or is rejected goes where the queue says, with its history.
func (q queues) deadLetters() (int, error) {
	s, dead, err := q.queue(2, "dead", nil)
	if err != nil {
		return 0, err
	}
	queue := topicName("amqp091", "ttl")
	arguments := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": int32(600)}
	if _, err := s.QueueDeclare(queue, true, false, false, false, arguments); err != nil {
		return 0, err
	}
	deliveries, err := s.Consume(dead, "", true, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	died := func(reason string) error {
		delivery, err := next(deliveries)
		if err != nil {
			return fmt.Errorf("%s: %w", reason, err)
		}
		deaths, _ := delivery.Headers["x-death"].([]any)
		if len(deaths) != 1 {
			return fmt.Errorf("%s: x-death is %v", reason, delivery.Headers["x-death"])
		}
		death, _ := deaths[0].(amqp.Table)
		got := fmt.Sprint(death["reason"], " ", death["queue"], " ", death["count"], " ", delivery.Headers["mine"])
		return same("death", got, fmt.Sprint(reason, " ", queue, " ", 1, " ", "yes"))
	}
	message := text("mortal")
	message.Headers = amqp.Table{"mine": "yes"}
	start := time.Now()
	if err := s.publish(queue, message); err != nil {
		return 0, err
	}
	if err := died("expired"); err != nil {
		return 0, err
	}
	if lived := time.Since(start); lived < 550*time.Millisecond {
		return 0, fmt.Errorf("expired after %v of 600 ms", lived)
	}
	consumed, err := s.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	if err := s.publish(queue, message); err != nil {
		return 0, err
	}
	delivery, err := next(consumed)
	if err == nil {
		err = delivery.Reject(false)
	}
	if err == nil {
		err = died("rejected")
	}
	if err != nil {
		return 0, err
	}
	return 2, s.drop(queue, dead)
}

// priorities: the highest first.
func (q queues) priorities() (int, error) {
	s, name, err := q.queue(0, "priority", amqp.Table{"x-max-priority": int32(10)})
	if err != nil {
		return 0, err
	}
	if err := s.Confirm(false); err != nil {
		return 0, err
	}
	for _, priority := range []uint8{1, 9, 0, 5, 9} {
		message := text(fmt.Sprint(priority))
		message.Priority = priority
		if err := s.publish(name, message); err != nil {
			return 0, err
		}
	}
	if err := s.Qos(1, 0, false); err != nil {
		return 0, err
	}
	deliveries, err := s.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	var got []string
	for range 5 {
		delivery, err := next(deliveries)
		if err != nil {
			return 0, err
		}
		got = append(got, string(delivery.Body))
		if err := delivery.Ack(false); err != nil {
			return 0, err
		}
	}
	if err := same("order", got, []string{"9", "9", "5", "1", "0"}); err != nil {
		return 0, err
	}
	return 5, s.drop(name)
}

// errors: a channel that is refused something closes with its code, and the connection lives.
func (q queues) errors() (int, error) {
	s, err := q.session(0)
	if err != nil {
		return 0, err
	}
	defer s.end()
	refusals := []struct {
		code int
		run  func(*amqp.Channel) error
	}{
		{404, func(c *amqp.Channel) error {
			_, err := c.QueueDeclarePassive("no-such-queue", false, false, false, false, nil)
			return err
		}},
		{404, func(c *amqp.Channel) error { return c.QueueBind("no-such-queue", "", "amq.topic", false, nil) }},
		{406, func(c *amqp.Channel) error {
			return c.ExchangeDeclare("amq.direct", "fanout", true, false, false, false, nil)
		}},
		{403, func(c *amqp.Channel) error { return c.ExchangeDelete("amq.direct", false, false) }},
		{406, func(c *amqp.Channel) error { _ = c.Ack(5, false); return c.Qos(1, 0, false) }},
	}
	for _, refusal := range refusals {
		channel, err := s.connection.Channel()
		if err != nil {
			return 0, err
		}
		closed := channel.NotifyClose(make(chan *amqp.Error, 1))
		_ = refusal.run(channel)
		select {
		case reason := <-closed:
			if reason == nil || reason.Code != refusal.code {
				return 0, fmt.Errorf("closed with %v, want %d", reason, refusal.code)
			}
		case <-time.After(queuePatience):
			return 0, fmt.Errorf("not closed with %d", refusal.code)
		}
	}
	return len(refusals), nil
}

// transaction: nothing is there before the commit.
func (q queues) transaction() (int, error) {
	s, name, err := q.queue(1, "tx", nil)
	if err == nil {
		err = s.Tx()
	}
	if err != nil {
		return 0, err
	}
	for _, step := range []func() error{s.TxRollback, s.TxCommit} {
		for range 2 {
			if err := s.Publish("", name, false, false, text("x")); err != nil {
				return 0, err
			}
		}
		if err := step(); err != nil {
			return 0, err
		}
	}
	queue, err := s.QueueDeclarePassive(name, true, false, false, false, nil)
	if err == nil {
		err = same("messages", queue.Messages, 2)
	}
	if err != nil {
		return 0, err
	}
	return 4, s.drop(name)
}

// delayedRetry: what fails waits, longer each time, and says how often it failed.
func (q queues) delayedRetry() (int, error) {
	s, name, err := q.queue(2, "retry", amqp.Table{"x-delayed-retry-min": int32(200), "x-delayed-retry-max": int32(5000)})
	if err != nil {
		return 0, err
	}
	deliveries, err := s.Consume(name, "", false, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	if err := s.publish(name, text("again")); err != nil {
		return 0, err
	}
	for failures, least := range []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond} {
		start := time.Now()
		delivery, err := next(deliveries)
		if err != nil {
			return 0, err
		}
		if waited := time.Since(start); waited < least-20*time.Millisecond {
			return 0, fmt.Errorf("came after %v instead of %v", waited, least)
		}
		count, _ := delivery.Headers["x-delivery-count"].(int64)
		if err := same("failures", count, failures); err != nil {
			return 0, err
		}
		if failures == 2 {
			err = delivery.Ack(false)
		} else {
			err = delivery.Nack(false, true)
		}
		if err != nil {
			return 0, err
		}
	}
	return 3, s.drop(name)
}
