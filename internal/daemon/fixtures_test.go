package daemon

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // status lines are in local time
	os.Exit(m.Run())
}

var (
	errDown     = errors.New("etcd is down")
	errRefused  = errors.New("access denied")
	errNonsense = errors.New("nonsense")
)

// What update_engine and people say.
var (
	need  = policy.Update{Source: policy.Engine, Pending: true, Version: "4081.2.0"}
	idle  = policy.Update{Source: policy.Engine}
	asked = policy.Update{Source: policy.Requester, Pending: true}
)

// Who may be at work.
var (
	people = policy.Local{Users: []string{"ann", "bob"}}
	backup = policy.Local{Inhibitors: []policy.Inhibitor{{Who: "rsync", Why: "unattended backup", User: "root"}}}
)

var people5m = policy.Config{LoginDelay: 5 * time.Minute, LoginRetry: time.Hour}

var clock = policy.Config{}.Clock

// span is an opening, and spans is a Gate made of them, in order.
type span struct{ start, end time.Time }

type spans []span

func (g *spans) Open(t time.Time) bool {
	start, _ := g.Next(t)
	return !start.After(t)
}

func (g *spans) Next(t time.Time) (start, end time.Time) {
	for _, s := range *g {
		if t.Before(s.end) {
			return s.start, s.end
		}
	}
	far := t.AddDate(100, 0, 0)
	return far, far.Add(time.Hour)
}
