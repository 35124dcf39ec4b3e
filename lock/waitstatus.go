package lock

import (
	"fmt"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// WaitStatus is what a host in [Lock.Acquire] waits for.
type WaitStatus struct {
	// Semaphore is as last read. Only the head of the queue sees every change.
	Semaphore Semaphore
	// Records are those of the holders, by id. Only the head of the queue reads them.
	Records map[string]Record
	// Ahead is the id right before this host in the queue; "" at the head, and beside another process.
	Ahead string
	// Beside says that another process has the place in the queue of this id, and that this one waits for the
	// outcome of that.
	Beside bool
	// Pause is not nil during a pause.
	Pause *Pause
}

// String says in one sentence what is waited for. Only the head of the queue knows the holders, so only it
// names them.
func (w WaitStatus) String() string {
	place, slots := "first in the queue", fmt.Sprintf("; no slot is free: max is %d, held by %s", w.Semaphore.Max, w.Holders())
	if w.Semaphore.Max == 0 {
		slots = "; " + (&FullError{Semaphore: w.Semaphore}).Error()
	}
	switch {
	case w.Beside:
		place, slots = "another process is in the queue for this machine, and this one waits beside it", ""
	case w.Ahead != "":
		place, slots = "in the queue behind "+safetext.Clean(w.Ahead), ""
	}
	if w.Pause != nil {
		return place + "; " + w.Pause.String()
	}
	return place + slots
}

// Holders names the holders of slots, as last read, each with the host name and the time that its record has;
// "nobody" if there are none.
func (w WaitStatus) Holders() string {
	var texts []string
	for _, id := range w.Semaphore.Holders {
		text := safetext.Clean(id)
		if r := w.Records[id]; r.Hostname != "" {
			text += " (" + r.Hostname + ")"
		}
		if r := w.Records[id]; !r.Since.IsZero() {
			text += " since " + r.Since.Local().Format(timeLayout)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return "nobody"
	}
	return safetext.List(texts)
}
