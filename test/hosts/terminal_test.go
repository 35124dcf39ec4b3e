package hosts

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/ptytest"
)

// terminal is a terminal of a host, with a user at it.
type terminal struct {
	h      *host
	screen *os.File

	mu    sync.Mutex
	shown strings.Builder
}

// login logs a user in at a new terminal of the host, as people do: by a getty, login(1) and a password, which is
// the user's name.
func (h *host) login(user string) *terminal {
	h.t.Helper()
	leader := h.awaitUp().leader
	screen, number := ptytest.OpenScreen(h.t, fmt.Sprintf("/proc/%d/root/dev/pts/ptmx", leader))
	term := &terminal{h: h, screen: screen}
	go term.read()
	h.do("systemctl", "start", fmt.Sprintf("container-getty@%d", number))
	term.await("login:")
	term.enter(user)
	term.await("Password:")
	term.enter(user)
	term.await("shell:") // input before the prompt is lost
	term.enter("echo logged''in")
	term.await("loggedin")
	return term
}

// read collects the output on the terminal until the end of the test.
func (t *terminal) read() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	buffer := make([]byte, 4096)
	for {
		n, err := t.screen.Read(buffer)
		t.mu.Lock()
		t.shown.Write(buffer[:n])
		t.mu.Unlock()
		switch {
		case errors.Is(err, syscall.EIO): // for now, no process has it open on the host
			<-tick.C
		case err != nil:
			return
		}
	}
}

// enter types a line.
func (t *terminal) enter(line string) {
	t.h.t.Helper()
	_, err := t.screen.WriteString(line + "\n")
	must.Do(t.h.t, err)
}

// await waits until the terminal has shown all the parts.
func (t *terminal) await(parts ...string) {
	t.h.t.Helper()
	defer func() {
		if t.h.t.Failed() {
			t.h.t.Logf("the terminal shows %q", t.text())
		}
	}()
	must.Eventually(t.h.t, patience, fmt.Sprintf("%q on the terminal", parts), func() bool { return contains.All(t.text(), parts...) })
}

// text returns the output so far without line breaks, which depend on the width.
func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(t.shown.String()), " ")
}
