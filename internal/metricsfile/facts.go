package metricsfile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Facts are what there is to say of a host.
type Facts struct {
	Version   string // of locksmithd
	Strategy  string
	Group     string // "" is the default group
	OSVersion string // "" where it is not known
	Doing     policy.Snapshot
	Past      *history.Kept // nil where it is not known
}

// A Metric is one that the file may have. Its values are gauges, but for names that end in _total.
type Metric struct {
	Name   string
	Help   string
	Labels []string
	// samples adds the samples; without any the metric is left out.
	samples func(f Facts, add func(value float64, labels ...string))
}

// states are those of the daemon while it runs.
var states = []policy.State{
	policy.Starting, policy.Settling, policy.Idle, policy.Waiting, policy.Locking, policy.Preparing, policy.Rebooting, policy.Releasing,
}

// Metrics are all metrics, in the order of the file.
var Metrics = []Metric{
	{"locksmith_info", "What runs on this host, and which group it is in; always 1.", []string{"version", "strategy", "group", "os_version"},
		func(f Facts, add func(float64, ...string)) {
			group := f.Group
			if group == "" {
				group = "default"
			}
			add(1, f.Version, f.Strategy, group, f.OSVersion)
		}},
	{"locksmith_state", "Whether locksmithd is in this state: 1 for one of them, 0 for the others.", []string{"state"},
		func(f Facts, add func(float64, ...string)) {
			for _, s := range states {
				add(truth(f.Doing.State == s), s.String())
			}
		}},
	{"locksmith_state_timestamp_seconds", "When that state began, in seconds since 1970.", nil,
		func(f Facts, add func(float64, ...string)) { at(add, f.Doing.Since) }},
	{"locksmith_reboot_needed", "Whether a reboot is needed.", nil,
		func(f Facts, add func(float64, ...string)) { add(truth(f.Doing.Need.Sources != nil)) }},
	{"locksmith_reboot_needed_timestamp_seconds", "Since when a reboot is needed, in seconds since 1970; only while it is.", nil,
		func(f Facts, add func(float64, ...string)) { at(add, f.Doing.Need.Since) }},
	{"locksmith_blocked", "Whether a reboot that is needed is held back for this reason: 1 for one reason at most, 0 for the others.", []string{"reason"},
		func(f Facts, add func(float64, ...string)) {
			now := inventory.WaitsFor(f.Doing)
			for _, reason := range inventory.Reasons {
				add(truth(reason == now), reason)
			}
			if now != "" && !slices.Contains(inventory.Reasons, now) {
				add(1, now)
			}
		}},
	{"locksmith_window_opens_timestamp_seconds", "When the reboot window opens, in seconds since 1970; only while a reboot waits for it.", nil,
		func(f Facts, add func(float64, ...string)) { at(add, f.Doing.Opens) }},
	{"locksmith_slot_held", "Whether this host holds a slot, or may hold one.", nil,
		func(f Facts, add func(float64, ...string)) { add(truth(f.Doing.Holds)) }},
	{"locksmith_slot_held_timestamp_seconds", "When the slot was taken, in seconds since 1970; only while one is held, and where that is known.", nil,
		func(f Facts, add func(float64, ...string)) { at(add, f.Doing.HeldSince) }},
	{"locksmith_healthy", "0 if this host is known not to be well after its last reboot, otherwise 1.", nil,
		func(f Facts, add func(float64, ...string)) {
			add(truth(f.Doing.Failed == "" && (f.Doing.Health == nil || !f.Doing.Health.Unwell)))
		}},
	{"locksmith_failed_attempts", "How many reboots in succession did not bring up the version that they were for.", nil,
		past(func(k *history.Kept, add func(float64, ...string)) { add(float64(k.Failed)) })},
	{"locksmith_reboots_total", "How many reboots that locksmithd asked for have taken place.", nil,
		past(func(k *history.Kept, add func(float64, ...string)) { add(float64(k.Reboots)) })},
	{"locksmith_last_reboot_timestamp_seconds", "When locksmithd last asked for a reboot, in seconds since 1970; only if it has.", nil,
		last(func(r *history.Reboot, add func(float64, ...string)) { at(add, r.At) })},
	{"locksmith_last_reboot_duration_seconds", "Time from asking for the last reboot until the host was found well, or for the first time not well; only once that is known.", nil,
		last(func(r *history.Reboot, add func(float64, ...string)) {
			if !r.Ended.IsZero() {
				add(max(0, r.Ended.Sub(r.At).Seconds()))
			}
		})},
}

func past(samples func(*history.Kept, func(float64, ...string))) func(Facts, func(float64, ...string)) {
	return func(f Facts, add func(float64, ...string)) {
		if f.Past != nil {
			samples(f.Past, add)
		}
	}
}

func last(samples func(*history.Reboot, func(float64, ...string))) func(Facts, func(float64, ...string)) {
	return past(func(k *history.Kept, add func(float64, ...string)) {
		if k.Last != nil {
			samples(k.Last, add)
		}
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// at adds a time, unless it is not known.
func at(add func(float64, ...string), t time.Time) {
	if !t.IsZero() {
		add(float64(t.Unix()))
	}
}

// escaped are the characters that the format cannot have in a label; safetext leaves no line feed.
var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// Text returns the metrics in the text format of Prometheus.
func (f Facts) Text() []byte {
	var b bytes.Buffer
	for _, m := range Metrics {
		headed := false
		m.samples(f, func(value float64, labels ...string) {
			if !headed {
				kind := "gauge"
				if strings.HasSuffix(m.Name, "_total") {
					kind = "counter"
				}
				fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", m.Name, m.Help, kind)
				headed = true
			}
			b.WriteString(m.Name)
			for i, label := range labels {
				fmt.Fprintf(&b, "%c%s=\"%s\"", "{,"[min(i, 1)], m.Labels[i], escaped.Replace(safetext.Clean(label)))
			}
			if len(labels) > 0 {
				b.WriteByte('}')
			}
			fmt.Fprintf(&b, " %.0f\n", value)
		})
	}
	return b.Bytes()
}
