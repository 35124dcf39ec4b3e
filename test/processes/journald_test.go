package processes

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/simhost"
)

// inJournal makes standard error of locksmithd a stream of the journal.
func inJournal(o *simhost.Options) { o.Journal = true }

// journald receives entries in the place of systemd-journald.
type journald struct{ *net.UnixConn }

// listenAsJournald opens the socket to which the host's locksmithd sends entries.
func (h *host) listenAsJournald() journald {
	h.t.Helper()
	path := h.Path("run/systemd/journal/socket")
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must.Do(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	return journald{conn}
}

// await returns the next entry with a text.
func (j journald) await(t *testing.T, text string) string {
	t.Helper()
	must.Do(t, j.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 1<<20)
	for {
		n, err := j.Read(buffer)
		if err != nil {
			t.Fatalf("no entry has %q: %v", text, err)
		}
		if entry := string(buffer[:n]); strings.Contains("\n"+entry, text) {
			return entry
		}
	}
}
