// Every version that ApiVersions offers, spoken byte for byte: a plain request of each API at each version must be
// answered without an error, and the answer, parsed and written again by franz-go's codec, must give the same bytes.

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	keyApiVersions     = 18
	unsupportedVersion = 35
)

// phaseOne is what a cluster must offer at least: the ranges of Apache Kafka 4.3 for data, admin and groups, by API key.
var phaseOne = map[int16][2]int16{
	0: {0, 13}, 1: {4, 18}, 2: {1, 11}, 3: {0, 13}, keyApiVersions: {0, 4}, 19: {2, 7}, 20: {1, 6}, 21: {0, 2},
	22: {0, 5}, 23: {2, 4}, 32: {1, 4}, 33: {0, 2}, 35: {1, 4}, 37: {0, 3}, 43: {0, 2}, 44: {0, 1}, 45: {0, 1}, 46: {0, 0}, 55: {0, 2}, 60: {0, 2}, 61: {0, 0}, 74: {0, 1}, 75: {0, 0},
	8: {2, 10}, 9: {1, 10}, 10: {0, 6}, 11: {0, 9}, 12: {0, 4}, 13: {0, 5}, 14: {0, 5}, 15: {0, 6}, 16: {0, 5}, 42: {0, 2},
	47: {0, 0},
}

// plain makes a request that succeeds and gives the error codes of its answer; nil where no plain one exists.
type plain struct {
	make  func(w *wire, version int16) kmsg.Request
	codes func(kmsg.Response) []int16
}

// rawConnection speaks Kafka's frames and nothing more.
type rawConnection struct {
	net.Conn
	format      *kmsg.RequestFormatter
	correlation int32
}

func (w *wire) dial() (*rawConnection, error) {
	brokers, err := w.admin.ListBrokers(w.ctx)
	if err != nil {
		return nil, err
	}
	for _, broker := range brokers {
		if broker.NodeID == w.leader {
			address := net.JoinHostPort(broker.Host, fmt.Sprint(broker.Port))
			connection, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				return nil, err
			}
			return &rawConnection{Conn: connection, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire"))}, nil
		}
	}
	return nil, fmt.Errorf("node %d is not among the brokers", w.leader)
}

// ask sends one request and gives the body of its answer, past the header.
func (c *rawConnection) ask(request kmsg.Request) ([]byte, error) {
	c.correlation++
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Write(c.format.AppendRequest(nil, request, c.correlation)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	answer := make([]byte, binary.BigEndian.Uint32(size[:])&0x0fff_ffff)
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, fmt.Errorf("half an answer: %w", err)
	}
	if got := int32(binary.BigEndian.Uint32(answer)); got != c.correlation {
		return nil, fmt.Errorf("correlation id %d, want %d", got, c.correlation)
	}
	answer = answer[4:]
	if request.IsFlexible() && request.Key() != keyApiVersions {
		if answer[0] != 0 {
			return nil, fmt.Errorf("the answer's header has %d tags, want 0", answer[0])
		}
		answer = answer[1:]
	}
	return answer, nil
}

// exchange sends a request and holds the answer against the codec.
func (c *rawConnection) exchange(request kmsg.Request) (kmsg.Response, error) {
	body, err := c.ask(request)
	if err != nil {
		return nil, err
	}
	response := request.ResponseKind()
	if err := response.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%d bytes do not parse: %w: %x", len(body), err, body[:min(len(body), 80)])
	}
	if again := response.AppendTo(nil); !bytes.Equal(again, body) {
		at := 0
		for at < min(len(again), len(body)) && again[at] == body[at] {
			at++
		}
		return nil, fmt.Errorf("%d bytes, written again %d: they differ at byte %d: %x", len(body), len(again), at, body[at:min(len(body), at+40)])
	}
	return response, nil
}

// offered asks ApiVersions at version 0, which every cluster has.
func (c *rawConnection) offered() ([]kmsg.ApiVersionsResponseApiKey, error) {
	response, err := c.exchange(kmsg.NewPtrApiVersionsRequest())
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.ApiVersionsResponse).ApiKeys, nil
}

func (w *wire) versionChecks(report *Report) {
	connection, err := w.dial()
	if err != nil {
		report.check("versions", func() (int, error) { return 0, err })
		return
	}
	defer connection.Close()
	report.check("versions/unknown", func() (int, error) { return 1, connection.unknownVersion() })
	report.check("versions/produce-0-to-2", func() (int, error) { return 1, connection.mentionsOldProduce() })
	report.check("versions/offered", func() (int, error) { return len(phaseOne), connection.offersPhaseOne() })
	offered, err := connection.offered()
	if err != nil {
		return // the checks before this one have failed then
	}
	requests := plainRequests()
	for _, api := range offered {
		if one, known := requests[api.ApiKey]; known {
			label := "versions/" + kmsg.NameForKey(api.ApiKey)
			report.check(label, func() (int, error) { return w.everyVersion(api, one) })
		}
	}
}

func (w *wire) everyVersion(api kmsg.ApiVersionsResponseApiKey, one plain) (int, error) {
	connection, err := w.dial()
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	first, last := api.MinVersion, min(api.MaxVersion, kmsg.RequestForKey(api.ApiKey).MaxVersion())
	if api.ApiKey == 0 {
		first = max(first, 3) // 0 to 2 are offered for old librdkafka's sake only
	}
	for version := first; version <= last; version++ {
		request := one.make(w, version)
		request.SetVersion(version)
		response, err := connection.exchange(request)
		if err != nil {
			return 0, fmt.Errorf("version %d: %w", version, err)
		}
		for _, code := range one.codes(response) {
			if code != 0 {
				return 0, fmt.Errorf("version %d: error %w", version, kerr.ErrorForCode(code))
			}
		}
	}
	return int(last - first + 1), nil
}

// unknownVersion: KIP-511, an ApiVersions of the future is answered in version 0 with the versions there are.
func (c *rawConnection) unknownVersion() error {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "wire", "1"
	request.SetVersion(3)
	frame := c.format.AppendRequest(nil, request, 7)
	frame[7] = 99 // the version's low byte, after size and key
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	answer := make([]byte, binary.BigEndian.Uint32(size[:])&0x0fff_ffff)
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	response := kmsg.NewPtrApiVersionsResponse()
	if err := response.ReadFrom(answer[4:]); err != nil {
		return fmt.Errorf("not a version 0 answer: %w", err)
	}
	if err := expect("error code", response.ErrorCode, int16(unsupportedVersion)); err != nil {
		return err
	}
	for _, api := range response.ApiKeys {
		if api.ApiKey == keyApiVersions && api.MaxVersion >= 3 {
			return nil
		}
	}
	return fmt.Errorf("the answer does not give ApiVersions' own range: %v", response.ApiKeys)
}

// mentionsOldProduce: KAFKA-18659, Produce is offered from 0 though 0 to 2 are refused, or old clients stop compressing.
func (c *rawConnection) mentionsOldProduce() error {
	offered, err := c.offered()
	if err != nil {
		return err
	}
	for _, api := range offered {
		if api.ApiKey == 0 {
			return expect("the least Produce version", api.MinVersion, int16(0))
		}
	}
	return fmt.Errorf("Produce is not offered")
}

func (c *rawConnection) offersPhaseOne() error {
	offered, err := c.offered()
	if err != nil {
		return err
	}
	found := map[int16][2]int16{}
	for _, api := range offered {
		found[api.ApiKey] = [2]int16{api.MinVersion, api.MaxVersion}
	}
	for key, want := range phaseOne {
		got, known := found[key]
		if !known || got[0] > want[0] || got[1] < want[1] {
			return fmt.Errorf("%s: offered %v (known: %t), want %v", kmsg.NameForKey(key), got, known, want)
		}
	}
	return nil
}
