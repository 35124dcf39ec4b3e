package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// BenchmarkServe measures how long it takes from the steady-state of one client until the next of 1,000 clients, whose
// requests the real program holds open, has its answer. For comparison it measures, before each, what the same etcd
// needs at least: to report a change by one client to another, and to write the other's answer. The connection of the
// steady-state, which a host makes after its reboot, is measured by itself.
func BenchmarkServe(b *testing.B) {
	b.Run("http", func(b *testing.B) { benchServe(b, false) })
	b.Run("https", func(b *testing.B) { benchServe(b, true) })
}

func benchServe(b *testing.B, encrypted bool) {
	const clients = 1000
	server := etcdtest.MustStart(b, etcdtest.Newest, etcdtest.Options{Args: []string{"--heartbeat-interval=100", "--election-timeout=1000"}})
	binary := filepath.Join(b.TempDir(), "locksmithctl")
	build := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	args := []string{"serve", "--root=" + b.TempDir(), "-endpoint=" + server.Endpoint(), "-listen=127.0.0.1:0", "-hold=25m"}
	// Each connection from an address of its own, as in a fleet: the requests of one address are bounded.
	var connections atomic.Uint32
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		n := connections.Add(1)
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}}
		return d.DialContext(ctx, network, address)
	}}
	if encrypted {
		ca := etcdtest.MustCA(b)
		pair := ca.MustIssue(b, etcdtest.Certificate{CommonName: "server", Hosts: []string{"127.0.0.1"}})
		args = append(args, "-tls-cert="+pair.CertFile, "-tls-key="+pair.KeyFile)
		data, err := os.ReadFile(ca.File())
		must.Do(b, err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(data)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	log := filepath.Join(b.TempDir(), "log")
	file, err := os.Create(log)
	must.Do(b, err)
	defer file.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = file, file
	process, err := proc.Start(cmd)
	must.Do(b, err)
	defer process.Kill()
	b.Cleanup(func() {
		if data, err := os.ReadFile(log); b.Failed() && err == nil {
			b.Logf("the server says\n%s", data)
		}
	})
	url := ""
	must.Eventually(b, patience, "the server", func() bool {
		data, _ := os.ReadFile(log)
		found := regexp.MustCompile(`lock" at=(\S+)`).FindSubmatch(data)
		if found != nil {
			url = string(found[1])
		}
		return found != nil
	})

	client := http.Client{Transport: transport}
	ask := func(operation, id string) {
		body := fleetlock.Params{ID: id, Group: "default"}.Encode()
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/v1/"+operation, strings.NewReader(string(body)))
		if err != nil {
			panic(err)
		}
		r.Header.Set("fleet-lock-protocol", "true")
		resp, err := client.Do(r)
		if err != nil {
			return // the end
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Errorf("%s of %s: %s", operation, id, resp.Status)
		}
	}
	connect := func() time.Duration {
		begin := time.Now()
		client.CloseIdleConnections()
		resp, err := client.Get(url + "/-/healthy")
		must.Do(b, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return time.Since(begin)
	}
	type grant struct {
		id string
		at time.Time
	}
	granted := make(chan grant, clients+1)
	wait := func(id string) {
		go func() {
			ask("pre-reboot", id)
			granted <- grant{id, time.Now()}
		}()
	}
	for i := range clients + 1 {
		wait(fmt.Sprintf("host-%04d", i))
	}
	etcd, err := server.Client()
	must.Do(b, err)
	must.Eventually(b, 2*time.Minute, "the clients in the queue", func() bool {
		resp, err := etcd.Get(b.Context(), keys+"/queue/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == clients
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.PID()))
	must.Do(b, err)
	resident, _ := strconv.Atoi(string(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status)[1]))
	holder := <-granted

	other, err := server.Client()
	must.Do(b, err)
	events := other.Watch(b.Context(), "floor/a", clientv3.WithCreatedNotify())
	<-events
	floor := func() time.Duration {
		begin, done := time.Now(), make(chan error)
		go func() {
			<-events
			_, err := other.Put(context.Background(), "floor/b", "x")
			done <- err
		}()
		_, err := etcd.Put(b.Context(), "floor/a", "x")
		must.Do(b, err)
		must.Do(b, <-done)
		return time.Since(begin)
	}
	var floors, connects, handovers []time.Duration
	for b.Loop() {
		floors = append(floors, floor())
		connects = append(connects, connect())
		begin := time.Now()
		ask("steady-state", holder.id)
		next := <-granted
		handovers = append(handovers, next.at.Sub(begin))
		wait(holder.id)
		holder = next
		time.Sleep(10 * time.Millisecond) // as long as the next host needs to be ready for its turn, as a reboot is in a fleet
	}
	median := func(of []time.Duration) float64 {
		slices.Sort(of)
		return float64(of[len(of)/2].Microseconds()) / 1000
	}
	b.ReportMetric(median(handovers), "ms/handover")
	b.ReportMetric(median(floors), "ms/floor")
	b.ReportMetric(median(connects), "ms/connect")
	b.ReportMetric(median(handovers)/median(floors), "handover/floor")
	b.ReportMetric(float64(resident)/1024, "MB")
	b.ReportMetric(0, "ns/op")
}
