package page

import "sync"

const (
	// atOnce is how many answers are made at once. Others wait for their turn.
	atOnce = 4
	// shortAnswer is how long an answer may be to be sent whatever other clients read, in bytes: the page is shorter.
	shortAnswer = 128 << 10
	// maxUnread is how many bytes the answers may have that clients have not read to their ends, and maxUnreadOfOne those
	// of one origin, see package origin. Beyond that only short answers are sent. The whole plan of 10,000 hosts has 4 MB.
	maxUnread, maxUnreadOfOne = 128 << 20, 32 << 20
)

// unread bounds the memory of answers that clients read slowly. Its methods may be called concurrently.
type unread struct {
	most, mostOfOne int // bytes

	mu   sync.Mutex
	all  int            // bytes
	from map[string]int // bytes by origin
}

// add reports whether an answer may be sent now. An answer that is too long for these bounds is sent while it is the only
// one. What was added has to be removed after it was sent.
func (u *unread) add(origin string, size int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.from[origin]
	if size > shortAnswer && (u.all > 0 && u.all+size > u.most || own > 0 && own+size > u.mostOfOne) {
		return false
	}
	if u.from == nil {
		u.from = map[string]int{}
	}
	u.all, u.from[origin] = u.all+size, own+size
	return true
}

func (u *unread) remove(origin string, size int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all -= size
	if u.from[origin] -= size; u.from[origin] == 0 {
		delete(u.from, origin)
	}
}
