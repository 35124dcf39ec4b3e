package hosts

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// witness inspects the fleet whenever one of its hosts is down, and records violations.
type witness struct {
	mu    sync.Mutex
	order []string
	wrong []string
}

// oneAtATime makes a witness record a host that is down without a slot, or together with another one. If also is
// not nil, it runs while a host is down.
func (f *fleet) oneAtATime(also func(h *host) error) *witness {
	w := &witness{}
	for _, h := range f.hosts {
		h.whileDown = func() {
			var wrong []string
			if s, err := f.read(); err != nil {
				wrong = append(wrong, fmt.Sprintf("read the semaphore while %s is down: %v", h.name, err))
			} else if !slices.Equal(s.Holders, []string{h.id}) {
				wrong = append(wrong, fmt.Sprintf("%s, %s, is down and the holders are %v", h.name, h.id, s.Holders))
			}
			for _, other := range f.others(h) {
				if !other.running() {
					wrong = append(wrong, other.name+" is down together with "+h.name)
				}
			}
			if also != nil {
				if err := also(h); err != nil {
					wrong = append(wrong, fmt.Sprintf("while %s is down: %v", h.name, err))
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.order, w.wrong = append(w.order, h.name), append(w.wrong, wrong...)
		}
	}
	return w
}

// wantHeldWhileDown makes the test fail if the host is down without being the only holder.
func (f *fleet) wantHeldWhileDown(h *host) {
	h.whileDown = func() {
		if s, err := f.read(); err != nil || !slices.Equal(s.Holders, []string{h.id}) {
			f.t.Errorf("while %s, %s, is down the semaphore is %+v, %v", h.name, h.id, s, err)
		}
	}
}

func (w *witness) check(t testing.TB, reboots int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("rebooted, in this order: %v", w.order)
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
	if len(w.order) != reboots {
		t.Errorf("there were %d reboots, want %d", len(w.order), reboots)
	}
}
