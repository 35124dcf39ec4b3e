package processes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// BenchmarkSignalToReboot measures, under strategy reboot, the time from the signal on the bus to the call at
// logind. It also measures the floor, on the same bus and with the same emitter and logind: a process that answers
// a signal with that call and nothing else. It reports the medians.
func BenchmarkSignalToReboot(b *testing.B) {
	h := startHost(b, "")
	h.awaitIdle()
	// A refused reboot is as quick as an accepted one, and leaves the host up.
	h.Logind.Refuse("Reboot", accessDenied, "benchmark")

	answerer := bustest.For(b).Connect(h.Bus)
	const path, name = dbus.ObjectPath("/floor"), "floor.Floor.Signal"
	must.Do(b, answerer.AddMatchSignal(dbus.WithMatchObjectPath(path)))
	signals := make(chan *dbus.Signal, 1)
	answerer.Signal(signals)
	go func() {
		logind := answerer.Object("org.freedesktop.login1", "/org/freedesktop/login1")
		for range signals {
			logind.Call("org.freedesktop.login1.Manager.Reboot", 0, false)
		}
	}()
	emitter := bustest.For(b).Connect(h.Bus)

	var floor, product []time.Duration
	for b.Loop() {
		start := time.Now()
		must.Do(b, emitter.Emit(path, name))
		floor = append(floor, h.awaitReboot().At.Sub(start))

		h.Engine.Set(needReboot)
		start = time.Now()
		must.Do(b, emitter.Emit(bustest.EnginePath, bustest.EngineSignal, int64(0), 0.0, bustest.OperationNeedReboot, "", int64(0)))
		product = append(product, h.awaitReboot().At.Sub(start))
		h.awaitStatus("waiting", "trying again")
		must.Do(b, h.Engine.Announce(idle))
		must.Do(b, emitter.Emit(bustest.EnginePath, bustest.EngineSignal, int64(0), 0.0, bustest.OperationIdle, "", int64(0)))
		h.awaitIdle()
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op") // includes the way back to idle
	b.ReportMetric(milliseconds(median(floor)), "floor-ms")
	b.ReportMetric(milliseconds(median(product)), "ms")
	b.ReportMetric(float64(median(product))/float64(median(floor)), "ratio")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// BenchmarkIdleMemory measures a daemon that has released a slot under etcd-lock and idles since, without a sentinel
// file and with one: anonymous and resident memory in KiB, once they no longer change, and wakeups of its threads per
// minute.
func BenchmarkIdleMemory(b *testing.B) {
	s := sharedEtcd(b, etcdtest.Newest)
	var plain, sentinel idleCost
	for b.Loop() {
		plain.measure(b, s)
		sentinel.measure(b, s, sentinelFile)
	}
	b.ReportMetric(0, "ns/op")
	plain.report(b, "")
	sentinel.report(b, "-sentinel")
}

// idleCost is what idle daemons cost, each at one index.
type idleCost struct{ anonymous, resident, wakeups []int }

// measure starts a daemon, waits until it idles, and measures it.
func (c *idleCost) measure(b *testing.B, s *etcdtest.Server, conf ...string) {
	b.Helper()
	h := startIdle(b, newGroup(b, s), conf...)
	pid := h.Daemon().PID()
	const still = 3 * time.Second
	for last := -1; ; {
		before := threadWakeups(b, pid)
		time.Sleep(still)
		now := memory(b, pid, "Anonymous")
		if now == last {
			c.wakeups = append(c.wakeups, (threadWakeups(b, pid)-before)*int(time.Minute/still))
			break
		}
		last = now
	}
	c.anonymous = append(c.anonymous, memory(b, pid, "Anonymous"))
	c.resident = append(c.resident, memory(b, pid, "Rss"))
	h.terminate()
}

func (c *idleCost) report(b *testing.B, name string) {
	b.ReportMetric(float64(slices.Max(c.anonymous)), "anon"+name+"-KiB")
	b.ReportMetric(float64(slices.Max(c.resident)), "rss"+name+"-KiB")
	b.ReportMetric(float64(slices.Max(c.wakeups)), "wakeups"+name+"/min")
}

// memory reads a line of smaps_rollup, see proc_pid_smaps(5), in KiB.
func memory(b *testing.B, pid int, line string) int {
	b.Helper()
	return number(b, fmt.Sprintf("/proc/%d/smaps_rollup", pid), line+":")
}

// threadWakeups counts how often the threads of a process went to sleep.
func threadWakeups(t testing.TB, pid int) int {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must.Do(t, err)
	n := 0
	for _, path := range threads {
		n += number(t, path, "voluntary_ctxt_switches:")
	}
	return n
}

// number returns the number after a key at the beginning of a line.
func number(t testing.TB, path, key string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	must.Do(t, err)
	for line := range bytes.Lines(data) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == key {
			n, err := strconv.Atoi(string(fields[1]))
			must.Do(t, err)
			return n
		}
	}
	t.Fatalf("%s has no %s", path, key)
	return 0
}
