// Load for etcd: clients share connections to the leader of one process, at most 16.
//
// Usage: etcd_load ENDPOINT,...   Reads a plan a line (workload clients value_bytes warm_s seconds
// connections), answers with a line of JSON; the same protocol as benchmarks/loads/lines.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const (
	connectionsMax  = 16
	keys            = 1000
	stride          = 7919
	mixedWriteEvery = 10
)

type plan struct {
	workload      string
	clients       int
	valueBytes    int
	warm, seconds float64
	connections   int
}

func (p plan) writesAt(place int) bool {
	return p.workload == "writes" || (p.workload == "mixed" && place%mixedWriteEvery == 0)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func connect(endpoints ...string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second})
	must(err)
	return client
}

// leader waits until one of the members says that it leads.
func leader(endpoints []string) string {
	client := connect(endpoints...)
	defer client.Close()
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		for _, endpoint := range endpoints {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			status, err := client.Status(ctx, endpoint)
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				return endpoint
			}
		}
	}
	must(fmt.Errorf("no leader within 30 s"))
	return ""
}

// one is a client with one operation under way; it returns the microseconds that each counted one took.
func one(client *clientv3.Client, p plan, number int, counted, end time.Time) []float64 {
	var latencies []float64
	value := strings.Repeat("x", p.valueBytes)
	for place := number * stride; ; place++ {
		began := time.Now()
		if began.After(end) {
			return latencies
		}
		key := fmt.Sprintf("key%d", place%keys)
		var err error
		if p.writesAt(place) {
			_, err = client.Put(context.Background(), key, value)
		} else {
			_, err = client.Get(context.Background(), key)
		}
		must(err)
		if began.After(counted) {
			latencies = append(latencies, float64(time.Since(began).Nanoseconds())/1e3)
		}
	}
}

func run(p plan, connections []*clientv3.Client) []byte {
	counted := time.Now().Add(time.Duration(p.warm * float64(time.Second)))
	end := counted.Add(time.Duration(p.seconds * float64(time.Second)))
	found := make([][]float64, p.clients)
	var running sync.WaitGroup
	for number := 0; number < p.clients; number++ {
		running.Add(1)
		go func(number int) {
			defer running.Done()
			found[number] = one(connections[number%p.connections], p, number, counted, end)
		}(number)
	}
	running.Wait()
	return figures(found, time.Since(counted).Seconds())
}

func figures(found [][]float64, elapsed float64) []byte {
	var all []float64
	for _, latencies := range found {
		all = append(all, latencies...)
	}
	operations := len(all)
	if operations == 0 { // a latency is at least the time that there was
		all = []float64{elapsed * 1e6}
	}
	sort.Float64s(all)
	quantiles := map[string]int{}
	for name, share := range map[string]float64{"p50": .5, "p90": .9, "p99": .99, "p999": .999, "max": 1} {
		at := int(share * float64(len(all)))
		if at >= len(all) {
			at = len(all) - 1
		}
		quantiles[name] = int(all[at])
	}
	document, err := json.Marshal(map[string]interface{}{
		"operations": operations, "per_second": float64(operations) / elapsed, "latency_us": quantiles,
	})
	must(err)
	return document
}

func main() {
	target := leader(strings.Split(os.Args[1], ","))
	var connections []*clientv3.Client
	for len(connections) < connectionsMax {
		connections = append(connections, connect(target))
	}
	for number := 0; number < keys; number++ {
		_, err := connections[0].Put(context.Background(), fmt.Sprintf("key%d", number), "")
		must(err)
	}
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var p plan
		_, err := fmt.Sscan(input.Text(), &p.workload, &p.clients, &p.valueBytes, &p.warm, &p.seconds, &p.connections)
		must(err)
		fmt.Println(string(run(p, connections)))
	}
}
