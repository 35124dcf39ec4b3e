package hosts

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/journal"
)

// entry returns the last entry of locksmithd with a field, as journalctl finds it, nil if there is none.
func (h *host) entry(field string) map[string]any {
	h.t.Helper()
	h.syncJournal()
	lines := strings.TrimSpace(h.do("journalctl", "--unit=locksmithd", "--output=json", field))
	if lines == "" {
		return nil
	}
	var entry map[string]any
	if err := json.Unmarshal([]byte(lines[strings.LastIndex(lines, "\n")+1:]), &entry); err != nil {
		h.t.Fatalf("%v in %s", err, lines)
	}
	return entry
}

// The package has brought the catalog into use, and the sandbox lets the daemon reach the journal.
func TestTheJournalHasFactsAndExplainsThem(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, h := startOne(t)
	other := machineID()
	h.do("locksmithctl", "lock", other)
	h.announce("4081.2.0")
	h.awaitStatus("waiting for a slot", "held by "+other)

	entry := h.entry("LOCKSMITH_STATE=locking")
	for field, want := range map[string]string{
		"MESSAGE_ID": string(journal.EnteredLocking), "LOCKSMITH_FROM": "waiting", "LOCKSMITH_VERSION": "4081.2.0", "LOCKSMITH_GROUP": f.group,
		"PRIORITY": "6", "SYSLOG_IDENTIFIER": "locksmithd", "SYSLOG_FACILITY": "3", "_TRANSPORT": "journal",
	} {
		if entry[field] != want {
			t.Errorf("%s is %q, want %q, in %v", field, entry[field], want, entry)
		}
	}
	if reason, _ := entry["LOCKSMITH_REASON"].(string); reason == "" || !strings.Contains(entry["MESSAGE"].(string), `why="`+reason+`"`) {
		t.Errorf("the reason is %q in %v", reason, entry)
	}
	if other := h.do("journalctl", "--output=cat", "_SYSTEMD_UNIT=locksmithd.service", "_TRANSPORT=stdout"); other != "" {
		t.Errorf("these lines were not sent as entries:\n%s", other)
	}
	shown := h.do("journalctl", "--no-pager", "--catalog", "--unit=locksmithd", "LOCKSMITH_STATE=locking")
	for _, want := range []string{"Subject: This host waits for a slot", `for version "4081.2.0"`, "locksmithctl unlock ID", "Documentation: man:locksmithd(8)"} {
		if !strings.Contains(shown, want) {
			t.Errorf("journalctl -x does not show %q:\n%s", want, shown)
		}
	}

	// A daemon that ends at once, too, says why in its unit's journal.
	h.write("/etc/flatcar/update.conf", "REBOOT_STRATEGY=sometimes\n")
	h.run("systemctl", "restart", "locksmithd")
	eventually(t, "the reason in the journal", func() bool { return h.entry("MESSAGE_ID="+string(journal.ConfigRefused)) != nil })

	h.do("dpkg", "--purge", "locksmith")
	if left := h.run("journalctl", "--list-catalog", string(journal.EnteredLocking)); strings.Contains(left.stdout, "waits for a slot") {
		t.Errorf("the catalog is left behind: %+v", left)
	}
}
