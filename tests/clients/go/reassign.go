// Moves all partitions of a topic to the nodes given, by AlterPartitionReassignments and ListPartitionReassignments as kadm asks
// them, and waits until nothing moves and metadata names those nodes and no others, all of them in sync.

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const reassignLimit = 60 * time.Second

func reassignCommand(arguments []string) int {
	if len(arguments) != 2 {
		fail(usage)
	}
	topic, nodes := arguments[0], []int32{}
	for _, word := range strings.Split(arguments[1], ",") {
		node, err := strconv.ParseInt(word, 10, 32)
		if err != nil {
			fail(usage)
		}
		nodes = append(nodes, int32(node))
	}
	slices.Sort(nodes)
	ctx, cancel := context.WithTimeout(context.Background(), reassignLimit)
	defer cancel()
	start := time.Now()
	if err := reassign(ctx, topic, nodes); err != nil {
		fmt.Printf("FAIL franz-go reassign %s to %v after %v: %v\n", topic, nodes, time.Since(start), err)
		return 1
	}
	fmt.Printf("ok franz-go reassign %s nodes=%s seconds=%.1f\n", topic, arguments[1], time.Since(start).Seconds())
	return 0
}

func reassign(ctx context.Context, topic string, nodes []int32) error {
	franz, err := newFranz()
	if err != nil {
		return err
	}
	details, err := franz.admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	var wanted kadm.AlterPartitionAssignmentsReq
	for partition := range details[topic].Partitions {
		// Each begins with another node, which is its preferred leader.
		first := int(partition) % len(nodes)
		wanted.Assign(topic, partition, slices.Concat(nodes[first:], nodes[:first]))
	}
	answers, err := franz.admin.AlterPartitionAssignments(ctx, wanted)
	if err != nil {
		return err
	}
	if err := answers.Error(); err != nil {
		return err
	}
	for ; ; time.Sleep(100 * time.Millisecond) {
		why := franz.moving(ctx, topic, nodes)
		if why == nil {
			return nil
		}
		if ctx.Err() != nil {
			return why
		}
	}
}

// moving says what is not yet as it shall be.
func (f *franz) moving(ctx context.Context, topic string, nodes []int32) error {
	details, err := f.admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	listed, err := f.admin.ListPartitionReassignments(ctx, details.TopicsSet())
	if err != nil {
		return err
	}
	if len(listed[topic]) > 0 {
		return fmt.Errorf("%d partitions are moving: %+v", len(listed[topic]), listed.Sorted()[0])
	}
	for _, partition := range details[topic].Partitions {
		slices.Sort(partition.ISR)
		slices.Sort(partition.Replicas)
		if !slices.Equal(partition.Replicas, nodes) || !slices.Equal(partition.ISR, nodes) {
			return fmt.Errorf("partition %d is on %v, in sync %v", partition.Partition, partition.Replicas, partition.ISR)
		}
	}
	return nil
}
