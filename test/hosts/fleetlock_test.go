package hosts

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// zincati is a program that asks for a slot when there is an update, reboots with it, and gives it back after the boot,
// as Zincati does; but it asks every few seconds, and not every few minutes. It uses no code of locksmith.
const zincati = `
import base64, json, os, ssl, subprocess, time, urllib.error, urllib.request

def ask(path):
    request = urllib.request.Request("%[1]s/v1/" + path, method="POST", headers={
        "fleet-lock-protocol": "true",
        "authorization": "Basic " + base64.b64encode(b"%[2]s").decode(),
    }, data=json.dumps({"client_params": {"id": "%[3]s", "group": "%[4]s"}}).encode())
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile="/etc/locksmith/ca.pem")) as answer:
            return answer.status == 200
    except urllib.error.HTTPError as answer:
        with open("/run/zincati-refused", "w") as file:
            file.write(json.load(answer)["kind"])
    except OSError as error:
        print("no answer:", error, flush=True)
    return False

while not ask("steady-state"):
    time.sleep(2)
while not os.path.exists("/var/lib/zincati-update"):
    time.sleep(0.5)
while not ask("pre-reboot"):
    time.sleep(2)
os.remove("/var/lib/zincati-update")
subprocess.run(["systemctl", "reboot"])
`

const zincatiUnit = `[Unit]
Wants=network.service
After=network.service
[Service]
ExecStart=/usr/bin/python3 /usr/local/libexec/zincati
[Install]
WantedBy=multi-user.target
`

// userOfGroup is the user that clients of the server are, and the password.
const userOfGroup = "zincati:s3cret"

// newServer makes a host, which is off, that serves the fleet's group to others, over TLS and to one user.
func (f *fleet) newServer() (h *host, url string, ca *etcdtest.CA) {
	f.t.Helper()
	h = newHost(f.t, f.conf("LOCKSMITHD_REBOOT_STRATEGY=off"))
	dir := filepath.Join(scratch, h.name+"-tls")
	must.Do(f.t, os.MkdirAll(dir, 0o755))
	ca, err := etcdtest.NewCA(dir)
	must.Do(f.t, err)
	pair := ca.MustIssue(f.t, etcdtest.Certificate{CommonName: h.name, Hosts: []string{h.address}})
	h.copyIn(pair.CertFile, "/etc/locksmith/server.pem")
	h.copyIn(pair.KeyFile, "/etc/locksmith/server.key")
	must.Do(f.t, os.Chmod(filepath.Join(h.root, "/etc/locksmith/server.key"), 0o600))
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), 10)
	must.Do(f.t, err)
	h.write("/etc/locksmith/groups.d/"+f.group+".conf", "")
	h.write("/etc/locksmith/groups.d/"+f.group+".users", "zincati:"+string(hash)+"\n")
	h.write("/etc/systemd/system/locksmith-serve.service.d/tls.conf", `[Service]
LoadCredential=server.key:/etc/locksmith/server.key
ExecStart=
ExecStart=/usr/bin/locksmithctl serve -listen :3333 -tls-cert /etc/locksmith/server.pem -tls-key %d/server.key
`)
	return h, fmt.Sprintf("https://%s:3333", h.address), ca
}

// copyIn copies a file to the host's disk.
func (h *host) copyIn(from, to string) {
	h.t.Helper()
	data, err := os.ReadFile(from)
	must.Do(h.t, err)
	h.write(to, string(data))
}

// usesAppID makes a host's id that of FleetLock clients.
func (h *host) usesAppID() {
	h.t.Helper()
	id, err := fleetlock.AppID(h.id)
	must.Do(h.t, err)
	h.id = id
}

// Two hosts with etcd, one whose locksmithd asks a FleetLock server, and one that speaks FleetLock without locksmith.
func TestAMixedFleetSharesOneSlotAlsoWhenItsServerIsKilled(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	server, url, ca := f.newServer()
	server.powerOn()
	server.awaitUp()
	server.do("systemctl", "enable", "--now", "locksmith-serve.service")
	f.add(2)
	client := newHost(t, fmt.Sprintf(`REBOOT_STRATEGY=fleet-lock
LOCKSMITHD_GROUP=%s
LOCKSMITHD_FLEETLOCK_URL=%s
LOCKSMITHD_FLEETLOCK_CAFILE=/etc/locksmith/ca.pem
LOCKSMITHD_FLEETLOCK_USERNAME=zincati
LOCKSMITHD_FLEETLOCK_PASSWORD_FILE=/etc/locksmith/password
`, f.group, url))
	client.copyIn(ca.File(), "/etc/locksmith/ca.pem")
	client.write("/etc/locksmith/password", "s3cret\n")
	must.Do(t, os.Chmod(filepath.Join(client.root, "/etc/locksmith/password"), 0o600))
	client.usesAppID()
	f.hosts = append(f.hosts, client)
	f.start()

	other := newHost(t, "REBOOT_STRATEGY=off\n")
	other.usesAppID()
	other.copyIn(ca.File(), "/etc/locksmith/ca.pem")
	other.write("/usr/local/libexec/zincati", fmt.Sprintf(zincati, url, userOfGroup, other.id, f.group))
	other.powerOn()
	other.awaitUp()
	other.service("zincati.service", zincatiUnit)
	other.do("systemctl", "start", "zincati.service")

	// None takes the slot before all wait for it.
	native, nobody := f.hosts[0], machineID()
	native.do("locksmithctl", "lock", nobody)
	var before []*boot
	for _, h := range f.hosts {
		before = append(before, h.awaitUp())
		h.announce("4081.2.0")
	}
	f.hosts, before = append(f.hosts, other), append(before, other.awaitUp())
	other.write("/var/lib/zincati-update", "")
	eventually(t, "four hosts in the queue", func() bool { return len(native.overview().Queue) == 4 })
	client.awaitStatus("waiting for a slot")

	witness := f.oneAtATime(func(h *host) error {
		if h != client && h != other {
			return nil
		}
		// It gives its slot back to the next process.
		if r := server.run("systemctl", "kill", "--signal=KILL", "locksmith-serve.service"); r.status != 0 {
			return fmt.Errorf("kill the server: %+v", r)
		}
		return nil
	})
	server.do("systemctl", "restart", "locksmith-serve.service") // answers those that wait, and ends
	eventually(t, "an answer that no slot is free", func() bool {
		return other.run("cat", "/run/zincati-refused").stdout == "lock_held"
	})
	native.do("locksmithctl", "unlock", nobody)
	for i, h := range f.hosts {
		h.awaitReboot(before[i])
	}
	f.awaitHolders()
	client.awaitStatus("idle")
	witness.check(t, 4)
	if o := native.overview(); len(o.Queue) > 0 {
		t.Errorf("hosts are in the queue after all have rebooted: %+v", o.Queue)
	}
	// The server shows what the hosts with etcd have done. (The others keep no records there.)
	pool := x509.NewCertPool()
	data, err := os.ReadFile(ca.File())
	must.Do(t, err)
	pool.AppendCertsFromPEM(data)
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	for path, want := range map[string]string{
		"/":             f.hosts[1].name,
		"/api/v1/hosts": `"hostname":"` + native.name + `"`,
		"/api/v1/plan":  `"group":"` + f.group + `"`,
		"/metrics":      `locksmith_fleet_hosts{`,
	} {
		shown := ""
		eventually(t, path+" with "+want, func() bool {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
			must.Do(t, err)
			r.SetBasicAuth("zincati", "s3cret")
			answer, err := browser.Do(r)
			must.Do(t, err)
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			must.Do(t, err)
			shown = fmt.Sprintf("%s %s", answer.Status, body)
			return answer.StatusCode == http.StatusOK && strings.Contains(strings.ReplaceAll(shown, `": `, `":`), want)
		})
		t.Logf("%s: %.300s", path, shown)
	}
}
