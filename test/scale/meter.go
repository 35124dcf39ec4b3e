package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// meter holds etcd's metrics, the numbers at /metrics, by name and labels.
type meter map[string]float64

func readMeter(ctx context.Context, s *etcdtest.Server) (meter, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint()+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read metrics of etcd: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics of etcd: %w", err)
	}
	defer resp.Body.Close()
	m := meter{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("read metrics of etcd: %w", err)
		}
		m[lines.Text()[:at]] = value
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read metrics of etcd: %w", err)
	}
	for _, name := range []string{received, sent, processCPU, resident, database} {
		if _, ok := m[name]; !ok {
			return nil, fmt.Errorf("read metrics of etcd: there is no %s", name)
		}
	}
	return m, nil
}

// The names of the metrics in use.
const (
	received   = "etcd_network_client_grpc_received_bytes_total"
	sent       = "etcd_network_client_grpc_sent_bytes_total"
	processCPU = "process_cpu_seconds_total"
	resident   = "process_resident_memory_bytes"
	database   = "etcd_mvcc_db_total_size_in_bytes"
)

func (m meter) less(before meter) meter {
	m = maps.Clone(m)
	for name, value := range before {
		m[name] -= value
	}
	return m
}

func (m meter) times(n float64) meter {
	m = maps.Clone(m)
	for name := range m {
		m[name] *= n
	}
	return m
}

// ofMethod matches a counter that etcd has for each remote procedure.
var ofMethod = regexp.MustCompile(`^grpc_server_(started|msg_received)_total\{grpc_method="(\w+)",grpc_service="etcdserverpb\.\w+",`)

// keepAlive is the procedure that hosts call as long as they wait.
const keepAlive = "LeaseKeepAlive"

// requests returns how often each remote procedure was called, and how many messages clients sent in all these
// calls. Keep-alives are counted separately.
func (m meter) requests() (calls map[string]float64, messages, keepAlives float64) {
	calls = map[string]float64{}
	for name, n := range m {
		counter := ofMethod.FindStringSubmatch(name)
		n = math.Round(n) // times may have made a fraction of it
		switch {
		case counter == nil || n == 0:
		case counter[2] == keepAlive && counter[1] == "started":
			keepAlives = n
		case counter[2] == keepAlive:
		case counter[1] == "started":
			calls[counter[2]] = n
		default:
			messages += n
		}
	}
	return calls, messages, keepAlives
}

func (m meter) memory(s *etcdtest.Server) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		return memory{}, fmt.Errorf("read memory of etcd: %w", err)
	}
	peak := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(status) // proc_pid_status(5)
	if peak == nil {
		return memory{}, fmt.Errorf("read memory of etcd: no VmHWM in %q", status)
	}
	kilobytes, err := strconv.ParseFloat(string(peak[1]), 64)
	if err != nil {
		return memory{}, fmt.Errorf("read memory of etcd: %w", err)
	}
	return memory{resident: m[resident], peak: kilobytes * 1024, database: m[database]}, nil
}
