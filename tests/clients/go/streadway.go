// streadway/amqp, the older of the two Go clients, against FLOTILLA_AMQP: the checks of amqp.go with what this library has of confirms.
// FLOTILLA_PEER=1 leaves out what only Flotilla has.

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/streadway/amqp"
)

// streadway is a connection to one of the nodes with one channel that confirms.
type streadway struct {
	*amqp.Channel
	connection *amqp.Connection
	confirmed  chan amqp.Confirmation
	returned   chan amqp.Return
	queue      string
}

func streadwayCommand() int {
	report := newReport("streadway", "github.com/streadway/amqp")
	checks := []struct {
		label     string
		arguments amqp.Table
		run       func(publisher, consumer *streadway) (int, error)
	}{
		{"work-queue", nil, streadwayWork}, {"requeue", nil, streadwayRequeue}, {"prefetch", nil, streadwayPrefetch},
		{"confirms", nil, streadwayConfirms}, {"mandatory", nil, streadwayMandatory}, {"topic-exchange", nil, streadwayTopic},
		{"dead-letters", nil, streadwayDead}, {"priorities", amqp.Table{"x-max-priority": int32(10)}, streadwayPriorities},
		{"delayed-retry", amqp.Table{"x-delayed-retry-min": int32(200), "x-delayed-retry-max": int32(5000)}, streadwayRetry},
	}
	for node, check := range checks {
		if check.label == "delayed-retry" && os.Getenv("FLOTILLA_PEER") == "1" {
			continue
		}
		report.check(check.label, func() (int, error) {
			publisher, err := openStreadway(node, topicName("streadway", check.label))
			if err != nil {
				return 0, err
			}
			defer publisher.connection.Close()
			if _, err := publisher.QueueDeclare(publisher.queue, true, false, false, false, check.arguments); err != nil {
				return 0, err
			}
			consumer, err := openStreadway(node+1, publisher.queue)
			if err != nil {
				return 0, err
			}
			defer consumer.connection.Close()
			count, err := check.run(publisher, consumer)
			if err == nil {
				_, err = publisher.QueueDelete(publisher.queue, false, false, false)
			}
			return count, err
		})
	}
	if report.failed {
		return 1
	}
	return 0
}

func openStreadway(node int, queue string) (*streadway, error) {
	nodes := strings.Split(environment("FLOTILLA_AMQP", "amqp://127.0.0.1:5672"), ",")
	connection, err := amqp.Dial(nodes[node%len(nodes)] + "/")
	if err != nil {
		return nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	confirmed, returned := make(chan amqp.Confirmation, 1000), make(chan amqp.Return, 10)
	channel.NotifyPublish(confirmed)
	channel.NotifyReturn(returned)
	return &streadway{channel, connection, confirmed, returned, queue}, channel.Confirm(false)
}

// send publishes one after the other, and waits for the confirmations behind the last.
func (s *streadway) send(exchange, key string, mandatory bool, messages ...amqp.Publishing) error {
	for _, message := range messages {
		if err := s.Publish(exchange, key, mandatory, false, message); err != nil {
			return err
		}
	}
	for number := range messages {
		select {
		case confirmation := <-s.confirmed:
			if !confirmation.Ack {
				return fmt.Errorf("message %d is refused", confirmation.DeliveryTag)
			}
		case <-time.After(queuePatience):
			return fmt.Errorf("%d of %d confirmed", number, len(messages))
		}
	}
	return nil
}

func bodies(all ...string) (messages []amqp.Publishing) {
	for _, body := range all {
		messages = append(messages, amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
	}
	return messages
}

func numbered(count int) (all []string) {
	for number := range count {
		all = append(all, fmt.Sprintf("%06d", number))
	}
	return all
}

// consume gives a function for the next delivery: an error if there is none for so long.
func (s *streadway) consume(queue string, prefetch int) (func(time.Duration) (amqp.Delivery, error), error) {
	if err := s.Qos(prefetch, 0, false); err != nil {
		return nil, err
	}
	deliveries, err := s.Consume(queue, queue, false, false, false, false, nil)
	return func(patience time.Duration) (amqp.Delivery, error) {
		select {
		case delivery, open := <-deliveries:
			if !open {
				return delivery, fmt.Errorf("the consumer ended")
			}
			return delivery, nil
		case <-time.After(patience):
			return amqp.Delivery{}, fmt.Errorf("no delivery for %v", patience)
		}
	}, err
}

// play consumes one by one: each step is the body, whether it came before, and what becomes of it.
func (s *streadway) play(queue string, steps ...string) error {
	next, err := s.consume(queue, 1)
	if err != nil {
		return err
	}
	for _, step := range steps {
		delivery, err := next(queuePatience)
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		then := step[strings.LastIndex(step, " ")+1:]
		if err := same("delivery", fmt.Sprintf("%s %t %s", delivery.Body, delivery.Redelivered, then), step); err != nil {
			return err
		}
		switch then {
		case "ack":
			err = delivery.Ack(false)
		case "nack":
			err = delivery.Nack(false, true)
		case "reject":
			err = delivery.Reject(false)
		}
		if err != nil {
			return err
		}
	}
	if delivery, err := next(queueSilence); err == nil {
		return fmt.Errorf("%s is one too many", delivery.Body)
	}
	return nil
}

// streadwayWork: two workers share the work; each message is done once.
func streadwayWork(publisher, consumer *streadway) (int, error) {
	const count = 500
	done := make(chan string, count)
	for _, worker := range []*streadway{publisher, consumer} {
		next, err := worker.consume(worker.queue, 20)
		if err != nil {
			return 0, err
		}
		go func() {
			for {
				delivery, err := next(queuePatience)
				if err != nil || delivery.Ack(false) != nil {
					return
				}
				done <- string(delivery.Body)
			}
		}()
	}
	if err := publisher.send("", publisher.queue, false, bodies(numbered(count)...)...); err != nil {
		return 0, err
	}
	var got []string
	for range count {
		select {
		case body := <-done:
			got = append(got, body)
		case <-time.After(queuePatience):
			return 0, fmt.Errorf("%d of %d done", len(got), count)
		}
	}
	slices.Sort(got)
	return count, same("messages done", got, numbered(count))
}

// streadwayRequeue: what is given back comes again, marked, in its place; what is rejected does not.
func streadwayRequeue(publisher, consumer *streadway) (int, error) {
	if err := publisher.send("", publisher.queue, false, bodies("a", "b")...); err != nil {
		return 0, err
	}
	return 3, consumer.play(consumer.queue, "a false nack", "a true reject", "b false ack")
}

// streadwayPrefetch: no more than the limit; an acknowledgement of all lets as many through.
func streadwayPrefetch(publisher, consumer *streadway) (int, error) {
	if err := publisher.send("", publisher.queue, false, bodies(numbered(10)...)...); err != nil {
		return 0, err
	}
	next, err := consumer.consume(consumer.queue, 2)
	if err != nil {
		return 0, err
	}
	for _, more := range []int{2, 2} {
		var last amqp.Delivery
		for range more {
			if last, err = next(queuePatience); err != nil {
				return 0, err
			}
		}
		if delivery, err := next(queueSilence); err == nil {
			return 0, fmt.Errorf("message %s is one too many", delivery.Body)
		}
		if err := last.Ack(true); err != nil {
			return 0, err
		}
	}
	return 4, nil
}

// streadwayConfirms: many at a time; all are there when the last is confirmed.
func streadwayConfirms(publisher, _ *streadway) (int, error) {
	const count = 1000
	if err := publisher.send("", publisher.queue, false, bodies(numbered(count)...)...); err != nil {
		return 0, err
	}
	purged, err := publisher.QueuePurge(publisher.queue, false)
	if err == nil {
		err = same("purged", purged, count)
	}
	return count, err
}

// streadwayMandatory: a message without a queue comes back before it is confirmed.
func streadwayMandatory(publisher, _ *streadway) (int, error) {
	if err := publisher.send("amq.topic", "nobody", true, bodies("back")...); err != nil {
		return 0, err
	}
	select {
	case returned := <-publisher.returned:
		return 1, same("returned", fmt.Sprintf("%d %s %s", returned.ReplyCode, returned.RoutingKey, returned.Body), "312 nobody back")
	case <-time.After(queuePatience):
		return 0, fmt.Errorf("nothing came back")
	}
}

// streadwayTopic: words, stars and hashes.
func streadwayTopic(publisher, consumer *streadway) (int, error) {
	exchange := publisher.queue
	if err := publisher.ExchangeDeclare(exchange, "topic", true, false, false, false, nil); err != nil {
		return 0, err
	}
	for _, pattern := range []string{"*.orange.*", "lazy.#"} {
		if err := publisher.QueueBind(publisher.queue, pattern, exchange, false, nil); err != nil {
			return 0, err
		}
	}
	for _, key := range []string{"quick.orange.fox", "lazy.orange.fox", "lazy", "quick.brown.fox"} {
		if err := publisher.send(exchange, key, false, bodies(key)...); err != nil {
			return 0, err
		}
	}
	err := consumer.play(consumer.queue, "quick.orange.fox false ack", "lazy.orange.fox false ack", "lazy false ack")
	if err != nil {
		return 0, err
	}
	return 4, publisher.ExchangeDelete(exchange, false, false)
}

// streadwayDead: what expires or is rejected goes where its queue says, with its history.
func streadwayDead(publisher, consumer *streadway) (int, error) {
	arguments := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": publisher.queue, "x-message-ttl": int32(600)}
	mortal, err := publisher.QueueDeclare("", false, false, true, false, arguments)
	if err != nil {
		return 0, err
	}
	if err := publisher.send("", mortal.Name, false, bodies("unwanted")...); err != nil {
		return 0, err
	}
	if err := publisher.play(mortal.Name, "unwanted false reject"); err != nil {
		return 0, err
	}
	next, err := consumer.consume(consumer.queue, 1)
	if err != nil {
		return 0, err
	}
	for _, reason := range []string{"rejected", "expired"} {
		start := time.Now()
		if reason == "expired" {
			if err := publisher.Cancel(mortal.Name, false); err != nil {
				return 0, err
			}
			if err := publisher.send("", mortal.Name, false, bodies("late")...); err != nil {
				return 0, err
			}
		}
		delivery, err := next(queuePatience)
		if err != nil {
			return 0, err
		}
		if lived := time.Since(start); reason == "expired" && lived < 550*time.Millisecond {
			return 0, fmt.Errorf("expired after %v of 600 ms", lived)
		}
		deaths, _ := delivery.Headers["x-death"].([]any)
		if len(deaths) != 1 {
			return 0, fmt.Errorf("x-death is %v", delivery.Headers["x-death"])
		}
		death := deaths[0].(amqp.Table)
		if err := same("death", fmt.Sprint(death["reason"], " ", death["queue"]), reason+" "+mortal.Name); err != nil {
			return 0, err
		}
		if err := delivery.Ack(false); err != nil {
			return 0, err
		}
	}
	return 2, nil
}

// streadwayPriorities: the highest first; of one priority the oldest.
func streadwayPriorities(publisher, consumer *streadway) (int, error) {
	for number, priority := range []uint8{1, 9, 0, 5, 9} {
		message := bodies(fmt.Sprintf("%d-%d", priority, number))[0]
		message.Priority = priority
		if err := publisher.send("", publisher.queue, false, message); err != nil {
			return 0, err
		}
	}
	return 5, consumer.play(consumer.queue, "9-1 false ack", "9-4 false ack", "5-3 false ack", "1-0 false ack", "0-2 false ack")
}

// streadwayRetry: what fails waits, longer each time.
func streadwayRetry(publisher, consumer *streadway) (int, error) {
	start := time.Now()
	if err := publisher.send("", publisher.queue, false, bodies("again")...); err != nil {
		return 0, err
	}
	if err := consumer.play(consumer.queue, "again false nack", "again true nack", "again true ack"); err != nil {
		return 0, err
	}
	if waited := time.Since(start) - queueSilence; waited < 580*time.Millisecond {
		return 0, fmt.Errorf("done after %v instead of 600 ms", waited)
	}
	return 3, nil
}
