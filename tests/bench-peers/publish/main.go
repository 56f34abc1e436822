// Measures confirmed publishes to queues: `publish nats` and `publish amqp`.
// A window of messages is on the way at once, spread over the queues, each with a connection of its own. Prints one JSON
// object with the names of `flotilla bench`; CPU, memory and written bytes are those of --pids.

package main

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

// Confirmation ends when a message is stored by a majority.
type Confirmation interface{ Wait() error }

// Queue takes messages; Publish gives up to its window of confirmations before one of them has come.
type Queue interface {
	Publish(body []byte) (Confirmation, error)
	Close()
}

type options struct {
	urls            []string
	window, queues  int
	size, replicas  int
	seconds, warmUp time.Duration
	pids            []string
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: publish nats|amqp --urls URL,... [--window N] [--queues N] [--size BYTES] [--seconds N] [--pids PID,...]")
	}
	open := map[string]func(options, int) (Queue, error){"nats": openNats, "amqp": openAmqp}[os.Args[1]]
	if open == nil {
		fail("no peer " + os.Args[1])
	}
	report, err := measure(parse(os.Args[2:]), open)
	if err != nil {
		fail(err.Error())
	}
	json.NewEncoder(os.Stdout).Encode(report)
}

func parse(arguments []string) options {
	flags := flag.NewFlagSet("publish", flag.ExitOnError)
	urls, pids := flags.String("urls", "", ""), flags.String("pids", "", "")
	window, queues := flags.Int("window", 1, ""), flags.Int("queues", 1, "")
	size, replicas := flags.Int("size", 1024, ""), flags.Int("replicas", 3, "")
	seconds, warmUp := flags.Int("seconds", 10, ""), flags.Int("warm-up", 1, "")
	flags.Parse(arguments)
	o := options{urls: strings.Split(*urls, ","), window: *window, queues: min(*queues, *window), size: *size, replicas: *replicas}
	o.seconds, o.warmUp = time.Duration(*seconds)*time.Second, time.Duration(*warmUp)*time.Second
	if *pids != "" {
		o.pids = strings.Split(*pids, ",")
	}
	return o
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}

// sent is a message whose confirmation has not come yet.
type sent struct {
	at           time.Time
	confirmation Confirmation
}

// worker keeps one queue's share of the window full from `begin` to `end` and gives the latencies confirmed between.
func worker(queue Queue, share int, body []byte, begin, end time.Time) ([]time.Duration, error) {
	onTheWay := make(chan sent, share)
	failure := make(chan error, 1)
	slots := make(chan struct{}, share)
	go func() {
		defer close(onTheWay)
		for time.Now().Before(end) {
			slots <- struct{}{}
			at := time.Now()
			confirmation, err := queue.Publish(body)
			if err != nil {
				failure <- err
				return
			}
			onTheWay <- sent{at, confirmation}
		}
	}()
	var latencies []time.Duration
	for message := range onTheWay {
		if err := message.confirmation.Wait(); err != nil {
			return nil, err
		}
		now := time.Now()
		if now.After(begin) && now.Before(end) {
			latencies = append(latencies, now.Sub(message.at))
		}
		<-slots
	}
	select {
	case err := <-failure:
		return nil, err
	default:
		return latencies, nil
	}
}

func measure(o options, open func(options, int) (Queue, error)) (map[string]any, error) {
	queues := make([]Queue, o.queues)
	for number := range queues {
		queue, err := open(o, number)
		if err != nil {
			return nil, err
		}
		defer queue.Close()
		queues[number] = queue
	}
	body := make([]byte, o.size)
	rand.Read(body)
	begin := time.Now().Add(o.warmUp)
	end := begin.Add(o.seconds)
	type outcome struct {
		latencies []time.Duration
		err       error
	}
	outcomes := make(chan outcome)
	for number, queue := range queues {
		share := o.window / o.queues
		if number < o.window%o.queues {
			share++
		}
		go func() {
			latencies, err := worker(queue, share, body, begin, end)
			outcomes <- outcome{latencies, err}
		}()
	}
	time.Sleep(time.Until(begin))
	before := look(o.pids)
	time.Sleep(time.Until(end))
	after := look(o.pids)
	var latencies []time.Duration
	for range queues {
		outcome := <-outcomes
		if outcome.err != nil {
			return nil, outcome.err
		}
		latencies = append(latencies, outcome.latencies...)
	}
	return report(o, latencies, before, after), nil
}

func report(o options, latencies []time.Duration, before, after usage) map[string]any {
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	quantile := func(share float64) float64 {
		if len(latencies) == 0 {
			return 0
		}
		return float64(latencies[int(share*float64(len(latencies)-1))].Microseconds()) / 1000
	}
	bytes := float64(len(latencies) * o.size)
	return map[string]any{
		"records_per_s":    float64(len(latencies)) / o.seconds.Seconds(),
		"mb_per_s":         bytes / 1e6 / o.seconds.Seconds(),
		"p50_ms":           quantile(0.5),
		"p99_ms":           quantile(0.99),
		"max_ms":           quantile(1),
		"cpu_s_per_gb":     (after.cpuSeconds - before.cpuSeconds) / max(bytes, 1) * 1e9,
		"rss_mib_sum":      after.rssMiB,
		"written_per_byte": (after.written - before.written) / max(bytes, 1),
	}
}
