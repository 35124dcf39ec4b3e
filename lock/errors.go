package lock

import (
	"time"
)

// PausedError says that nobody may take a slot now.
type PausedError struct {
	Pause Pause
}

func (e *PausedError) Error() string { return e.Pause.String() }

// timeLayout names the zone, since the host's may be another one by the time that somebody reads it.
const timeLayout = time.DateTime + " MST"

// String says in one sentence who pauses whom since when, and why.
func (p *Pause) String() string {
	text := "paused"
	if p.All {
		text = "all groups are paused"
	}
	if p.Broken {
		return text + "; what etcd has about the pause cannot be understood"
	}
	if p.By != "" {
		text += " by " + p.By
	}
	if !p.Since.IsZero() {
		text += " since " + p.Since.Local().Format(timeLayout)
	}
	if !p.Until.IsZero() {
		text += " until " + p.Until.Local().Format(timeLayout)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}
