// Publishers and consumers of one queue, by rabbitmq/amqp091-go, while somebody else kills the nodes that lead it. Each message is published once,
// under a number of its own: what was confirmed must end acknowledged or dead-lettered, and again only if the connection that said so was lost.
// Standard input says how far the caller is: `fill` is answered by `full ...` once the consumers hold all they may, `round` by what happened since
// the last `full`; at its end all is taken out of the queue and counted.

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	killConsumers  = 10
	killPrefetch   = 100
	killPublishers = 3
	killWindow     = 100 // unconfirmed messages of a publisher
	killBacklog    = 3000
	// killPause is between two settlements of one consumer.
	killPause = 10 * time.Millisecond
	// killLag is how long before the loss of its connection a settlement may have been sent that is not taken.
	killLag     = time.Second
	killDrained = 2 * time.Second
	// killAway is how long one stays with a node that is not its first choice.
	killAway = 4 * time.Second
)

// link is a connection; lost is when it ended, by an orderly close or not.
type link struct {
	*amqp.Channel
	connection *amqp.Connection
	closed     chan *amqp.Error
	away       bool // not at the node of first choice
	orderly    bool
	lost       time.Time
}

// told is something that a consumer said of a message, or a message that it holds.
type told struct {
	by *link
	at time.Time
}

// story is what became of one message.
type story struct {
	confirmed  bool
	deliveries int
	failures   int
	held       *told
	failed     *told
	settled    *told
}

// broken is what is only allowed if a connection ended.
type broken struct {
	told
	said bool // by a settlement; else the message was held
	what string
}

// killRun is one run; all fields below mu are guarded by it.
type killRun struct {
	nodes       []string
	queue, dead string
	published   sync.WaitGroup
	consumed    sync.WaitGroup
	ending      chan struct{}
	ended       chan struct{}

	mu         sync.Mutex
	stories    []*story
	open       int // confirmed and not settled
	inFlight   int
	confirmed  int
	repeated   int
	returned   int
	lastArrive time.Time
	silence    time.Duration
	doubts     []broken
	wrong      []string
}

func queueKillCommand() int {
	report := newReport("amqp091-go", "github.com/rabbitmq/amqp091-go")
	report.deadline.Stop() // its caller has one
	run := &killRun{
		nodes: strings.Split(environment("FLOTILLA_AMQP", "amqp://127.0.0.1:5672"), ","),
		queue: topicName("amqp091", "kill"), dead: topicName("amqp091", "kill-dead"),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
	report.check("queue-kill", run.run)
	if report.failed {
		return 1
	}
	return 0
}

func (r *killRun) run() (int, error) {
	if err := r.declare(); err != nil {
		return 0, err
	}
	fmt.Printf("queue %s\n", r.queue)
	for home := range killPublishers {
		r.published.Add(1)
		go r.publish(home)
	}
	for home := range killConsumers {
		r.consumed.Add(1)
		go r.consume(home)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "fill":
			fmt.Printf("full in_flight=%d\n", r.fill())
		case "round":
			fmt.Println(r.round())
		}
	}
	close(r.ending)
	r.published.Wait()
	r.drain()
	close(r.ended)
	r.consumed.Wait()
	letters, err := r.letters()
	if err != nil {
		return 0, err
	}
	return len(r.stories), r.judge(letters)
}

func (r *killRun) declare() error {
	l := r.dial(0, nil)
	defer l.connection.Close()
	if _, err := l.QueueDeclare(r.dead, true, false, false, false, nil); err != nil {
		return err
	}
	arguments := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": r.dead}
	_, err := l.QueueDeclare(r.queue, true, false, false, false, arguments)
	return err
}

// dial tries one node after the other, its home first, with growing pauses, until there is a channel or `enough` is closed.
func (r *killRun) dial(home int, enough <-chan struct{}) *link {
	pause := 10 * time.Millisecond
	for node := home; ; node++ {
		if l, err := openLink(r.nodes[node%len(r.nodes)] + "/"); err == nil {
			l.away = (node-home)%len(r.nodes) != 0
			return l
		}
		select {
		case <-enough:
			return nil
		case <-time.After(pause):
			pause = min(2*pause, 250*time.Millisecond)
		}
	}
}

func openLink(address string) (*link, error) {
	connection, err := amqp.DialConfig(address, amqp.Config{Dial: amqp.DefaultDial(2 * time.Second), Heartbeat: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	return &link{Channel: channel, connection: connection, closed: channel.NotifyClose(make(chan *amqp.Error, 1))}, nil
}

// lose notes that a connection broke: nobody knows what of its last words was heard.
func (r *killRun) lose(l *link, holds int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lost = time.Now()
	r.inFlight -= holds
	_ = l.connection.Close()
}

// publish goes on with another connection when one breaks. What was not confirmed by then stays in doubt.
func (r *killRun) publish(home int) {
	defer r.published.Done()
	for {
		l := r.dial(home, r.ending)
		if l == nil || !r.publishOn(l) {
			return
		}
	}
}

func (r *killRun) publishOn(l *link) (again bool) {
	defer func() { r.lose(l, 0) }()
	confirmed := l.NotifyPublish(make(chan amqp.Confirmation, killWindow))
	if l.Confirm(false) != nil {
		return true
	}
	var waiting []int
	note := func(confirmation amqp.Confirmation) {
		number := waiting[0]
		waiting = waiting[1:]
		r.confirm(number, confirmation.Ack)
	}
	ending := r.ending
	for {
		select {
		case confirmation, alive := <-confirmed:
			if !alive {
				return true
			}
			note(confirmation)
		case <-ending:
			ending = nil
		case <-time.After(time.Millisecond):
		}
		if ending == nil && len(waiting) == 0 {
			return false
		}
		for ending != nil && len(waiting) < killWindow && r.wantsMore() {
			number := r.begin()
			if l.Publish("", r.queue, false, false, text(strconv.Itoa(number))) != nil {
				return true
			}
			waiting = append(waiting, number)
		}
	}
}

func (r *killRun) wantsMore() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open < killBacklog
}

func (r *killRun) begin() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stories = append(r.stories, &story{})
	return len(r.stories) - 1
}

func (r *killRun) confirm(number int, taken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.stories[number]; taken {
		s.confirmed = true
		r.confirmed++
		if s.settled == nil {
			r.open++
		}
	}
}

func (r *killRun) consume(home int) {
	defer r.consumed.Done()
	for {
		l := r.dial(home, r.ended)
		if l == nil || !r.consumeOn(l) {
			return
		}
	}
}

// consumeOn holds as much as it may, and settles the oldest from time to time.
func (r *killRun) consumeOn(l *link) (again bool) {
	var held []amqp.Delivery
	defer func() { r.lose(l, len(held)) }()
	if l.Qos(killPrefetch, 0, false) != nil {
		return true
	}
	deliveries, err := l.Consume(r.queue, "", false, false, false, false, nil)
	if err != nil {
		return true
	}
	settle := time.NewTicker(killPause)
	defer settle.Stop()
	var home <-chan time.Time
	if l.away {
		home = time.After(killAway)
	}
	for {
		select {
		case delivery, alive := <-deliveries:
			if !alive {
				return true
			}
			held = append(held, delivery)
			r.arrive(l, delivery)
		case <-settle.C:
			for count := 0; len(held) > 0 && (count == 0 || r.isEnding()); count++ {
				delivery := held[0]
				held = held[1:]
				r.settle(l, delivery)
			}
		case <-l.closed:
			return true
		case <-home:
			l.orderly = l.connection.Close() == nil
			return true
		case <-r.ended:
			return false
		}
	}
}

func (r *killRun) isEnding() bool {
	select {
	case <-r.ending:
		return true
	default:
		return false
	}
}

// arrive takes down a delivery and what is wrong with it.
func (r *killRun) arrive(l *link, delivery amqp.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.silence = max(r.silence, now.Sub(r.lastArrive))
	r.lastArrive = now
	r.inFlight++
	number, err := strconv.Atoi(string(delivery.Body))
	if err != nil || number >= len(r.stories) {
		r.wrong = append(r.wrong, fmt.Sprintf("a delivery of %q", delivery.Body))
		return
	}
	s := r.stories[number]
	count, _ := delivery.Headers["x-delivery-count"].(int64)
	if s.deliveries > 0 && !delivery.Redelivered {
		r.wrong = append(r.wrong, fmt.Sprintf("%d came again without the flag", number))
	}
	if int(count) > s.failures {
		r.wrong = append(r.wrong, fmt.Sprintf("%d failed %d times, x-delivery-count is %d", number, s.failures, count))
	}
	if int(count) < s.failures {
		r.doubt(number, s.failed, true, "its failure was forgotten")
	}
	if s.settled != nil {
		r.repeated++
		r.doubt(number, s.settled, true, "it came again after it was settled")
	}
	if s.held != nil {
		r.returned++
		r.doubt(number, s.held, false, "it came again while somebody held it")
	}
	s.deliveries++
	s.held = &told{l, now}
}

// doubt is judged in the end, when it is known which connections ended, and how. What is held is given back whenever its connection ends.
func (r *killRun) doubt(number int, why *told, said bool, what string) {
	r.doubts = append(r.doubts, broken{*why, said, fmt.Sprintf("%d: %s", number, what)})
}

// settle gives one of 50 back once, rejects one of 50, and accepts the others.
func (r *killRun) settle(l *link, delivery amqp.Delivery) {
	number, _ := strconv.Atoi(string(delivery.Body))
	r.mu.Lock()
	s := r.stories[number]
	fails := number%50 == 0 && s.failures == 0
	said := &told{l, time.Now()}
	if fails {
		s.failures++
		s.failed = said
	} else {
		if s.settled == nil && s.confirmed {
			r.open--
		}
		s.settled = said
	}
	s.held = nil
	r.inFlight--
	r.mu.Unlock()
	// An error means that the connection is lost, which its owner learns of as well.
	switch {
	case fails:
		_ = delivery.Nack(false, true)
	case number%50 == 1:
		_ = delivery.Reject(false)
	default:
		_ = delivery.Ack(false)
	}
}

// fill waits until the consumers hold all they may, but for what is just on its way.
func (r *killRun) fill() int {
	for {
		r.mu.Lock()
		if r.inFlight >= killConsumers*(killPrefetch-2) {
			defer r.mu.Unlock()
			r.silence, r.lastArrive = 0, time.Now()
			r.confirmed, r.repeated, r.returned = 0, 0, 0
			return r.inFlight
		}
		r.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// round tells what happened since the consumers were full.
func (r *killRun) round() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silence = max(r.silence, time.Since(r.lastArrive))
	return fmt.Sprintf("round silence_ms=%d confirmed=%d returned=%d repeated=%d", r.silence.Milliseconds(), r.confirmed, r.returned, r.repeated)
}

// drain waits until nothing comes any more.
func (r *killRun) drain() {
	for {
		r.mu.Lock()
		quiet := r.inFlight == 0 && time.Since(r.lastArrive) > killDrained
		r.mu.Unlock()
		if quiet {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// letters reads the dead letters, after a look whether anything is left in the queue.
func (r *killRun) letters() (map[int]int, error) {
	l := r.dial(0, nil)
	defer l.connection.Close()
	left, err := l.QueueDeclarePassive(r.queue, true, false, false, false, nil)
	if err == nil {
		err = same("messages left", left.Messages, 0)
	}
	if err != nil {
		return nil, err
	}
	dead, err := l.QueueDeclarePassive(r.dead, true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	deliveries, err := l.Consume(r.dead, "", true, false, false, false, nil)
	letters := map[int]int{}
	for range dead.Messages {
		delivery, err := next(deliveries)
		if err != nil {
			return nil, err
		}
		number, err := strconv.Atoi(string(delivery.Body))
		if err != nil {
			return nil, err
		}
		letters[number]++
	}
	return letters, err
}

// judge holds each story against what was promised.
func (r *killRun) judge(letters map[int]int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	wrong := r.wrong
	for number, s := range r.stories {
		if s.confirmed && s.settled == nil {
			wrong = append(wrong, fmt.Sprintf("%d is LOST: confirmed, delivered %d times, never settled", number, s.deliveries))
		}
		rejected := 0
		if number%50 == 1 && s.settled != nil {
			rejected = 1
		}
		if letters[number] != rejected {
			wrong = append(wrong, fmt.Sprintf("%d is a dead letter %d times, not %d", number, letters[number], rejected))
		}
	}
	for _, doubt := range r.doubts {
		taken := doubt.said && (doubt.by.orderly || doubt.by.lost.Sub(doubt.at) > killLag)
		if doubt.by.lost.IsZero() || taken {
			wrong = append(wrong, fmt.Sprintf("%s, at %v, by a connection that ended at %v", doubt.what, doubt.at, doubt.by.lost))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d things are wrong: %s", len(wrong), strings.Join(wrong[:min(10, len(wrong))], "; "))
	}
	return nil
}
