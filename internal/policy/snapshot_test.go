package policy

import (
	"encoding/json"
	"testing"
)

// Facts that do not apply are left out.
func TestSnapshotIsFactsInJSON(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []any
		want   string
	}{
		{"idle", []any{notHeld}, `{"state":"idle","since":"2026-03-02T04:00:00Z","why":"no slot is held","lock":true}`},
		{"held back", []any{notHeld, backup, need},
			`{"state":"waiting","since":"2026-03-02T04:00:00Z","why":"a reboot is needed","lock":true,` +
				`"need":{"since":"2026-03-02T04:00:00Z","version":"4081.2.0","sources":["update_engine"],"reasons":["update_engine"]},` +
				`"held_back":{"kind":"inhibitors","text":"\"unattended backup\" (rsync, root): block inhibitor"}}`},
		{"undoing", []any{notHeld, need, got, unchecked, notGiven},
			`{"state":"releasing","since":"2026-03-02T04:00:00Z","why":"could not check whether the host may reboot: etcd is down","lock":true,"holds":true,` +
				`"need":{"since":"2026-03-02T04:00:00Z","version":"4081.2.0","sources":["update_engine"],"reasons":["update_engine"]},"held_since":"2026-03-02T04:00:00Z",` +
				`"undo":[{"name":"a slot","doing":"giving the slot back","retry":{"at":"2026-03-02T04:00:00.892214001Z","error":"etcd is down"}}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true).do(c.script...)
			facts := r.m.Snapshot(r.now)
			facts.Gates = nil // TestGates shows those
			if got, err := json.Marshal(facts); err != nil || string(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}
