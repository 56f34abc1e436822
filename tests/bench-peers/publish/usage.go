// What processes of this machine have used so far, from /proc, as `flotilla bench` reads it.

package main

import (
	"os"
	"strconv"
	"strings"
)

const ticksPerSecond = 100

type usage struct{ cpuSeconds, rssMiB, written float64 }

func look(pids []string) usage {
	var sum usage
	for _, pid := range pids {
		if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil {
			fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
			sum.cpuSeconds += (number(fields[11]) + number(fields[12])) / ticksPerSecond
		}
		sum.rssMiB += value("/proc/"+pid+"/status", "VmRSS:") / 1024
		sum.written += value("/proc/"+pid+"/io", "write_bytes:")
	}
	return sum
}

// value is the first number behind a name at the start of a line.
func value(file, name string) float64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			return number(strings.Fields(rest)[0])
		}
	}
	return 0
}

func number(text string) float64 {
	value, _ := strconv.ParseFloat(text, 64)
	return value
}
