package grant

import "time"

// firstFrom notes that the client is first in the queue.
func (w *wait) firstFrom(now time.Time) {
	if w.first.IsZero() {
		w.first = now
	}
}

// gives notes that a client gives its slot back. One that has none, or whose slot this server has not given, gives nothing.
func (s *Server) gives(c client) {
	if !s.journal.granted(c) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freed[c.group] = time.Now()
}

// took tells of a hand-over if the client that has taken a slot was waiting for it when it was given back.
func (s *Server) took(w *wait) {
	s.mu.Lock()
	freed := s.freed[w.group]
	delete(s.freed, w.group)
	s.mu.Unlock()
	if s.handedOver != nil && !w.first.IsZero() && !freed.Before(w.first) {
		s.handedOver(w.group, time.Since(freed))
	}
}
