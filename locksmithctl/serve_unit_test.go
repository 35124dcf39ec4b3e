package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
)

// TestServeUnits boots systemd in a container, and starts the server there by its units: with the settings that the
// unit of locksmithd has, and with a key for etcd that only root can read.
func TestServeUnits(t *testing.T) {
	if nspawntest.Inside() {
		serveByUnits(t)
		return
	}
	nspawntest.Require(t)
	ca, clients := etcdtest.MustCA(t), etcdtest.MustCA(t)
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: clients}})
	pair := clients.MustIssue(t, etcdtest.Certificate{CommonName: "server"})
	var addresses []string // the container has this machine's network
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must.Do(t, err)
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
		must.Do(t, l.Close())
	}
	m := nspawntest.New(t, "/")
	m.Build("/usr/bin/locksmithctl", ".")
	for _, name := range []string{"locksmithd.service", "locksmith-serve.service", "locksmith-serve.socket"} {
		m.Copy("/usr/lib/systemd/system/"+name, "../systemd/"+name, 0o644)
	}
	m.Write("/etc/systemd/system/locksmithd.service.d/endpoint.conf", "[Service]\nEnvironment=LOCKSMITHD_ENDPOINT="+etcd.Endpoint()+"\n")
	m.Write("/etc/locksmith/locksmith.conf", "LOCKSMITHD_ETCD_CAFILE=/etc/locksmith/ca.pem\nLOCKSMITHD_ETCD_CERTFILE=/etc/locksmith/etcd.pem\n")
	m.Copy("/etc/locksmith/ca.pem", ca.File(), 0o644)
	m.Copy("/etc/locksmith/etcd.pem", pair.CertFile, 0o644)
	m.Copy("/etc/locksmith/etcd.key", pair.KeyFile, 0o600)
	m.Write("/etc/systemd/system/locksmith-serve.service.d/key.conf", "[Service]\nLoadCredential=locksmithd.etcd-key:/etc/locksmith/etcd.key\n")
	m.Write("/listen.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/locksmithctl serve -listen "+addresses[0]+"\n")
	m.Write("/etc/systemd/system/locksmith-serve.socket.d/address.conf", "[Socket]\nListenStream=\nListenStream="+addresses[1]+"\n")
	m.Write("/addresses", strings.Join(addresses, " "))
	for _, name := range []string{"first", "second"} {
		pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: name, Hosts: []string{"127.0.0.1"}})
		m.Copy("/etc/locksmith/"+name+".pem", pair.CertFile, 0o600)
		m.Copy("/etc/locksmith/"+name+".key", pair.KeyFile, 0o600)
	}
	m.Write("/tls.conf", "[Service]\nSupplementaryGroups=locksmith\nExecStart=\nExecStart=/usr/bin/locksmithctl serve -listen "+addresses[0]+
		" -tls-cert /etc/locksmith/server.pem -tls-key /etc/locksmith/server.key\n")
	m.Write("/etc/sysusers.d/locksmith.conf", "g locksmith -\n")
	m.RunTest()
}

// serveByUnits runs in the container.
func serveByUnits(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			journal, _ := exec.Command("journalctl", "--no-pager", "-u", "locksmith-serve.service").CombinedOutput()
			t.Fatalf("%q: %v\n%s\n%s", args, err, out, journal)
		}
		return strings.TrimSpace(string(out))
	}
	data, err := os.ReadFile("/addresses")
	must.Do(t, err)
	addresses := strings.Fields(string(data))
	client := newClient(nil)
	ask := func(i int, operation, id string) {
		t.Helper()
		s := &serving{url: "http://" + addresses[i]}
		if code, kind := s.ask(t, client, operation, "default", id); code != http.StatusOK {
			t.Fatalf("%s of %s at %s: %d %s\n%s", operation, id, s.url, code, kind, run("journalctl", "--no-pager", "-u", "locksmith-serve.service"))
		}
	}
	property := func(name string) string {
		t.Helper()
		return run("systemctl", "show", "--value", "-p", name, "locksmith-serve.service")
	}

	must.Do(t, os.MkdirAll("/etc/systemd/system/locksmith-serve.service.d", 0o755))
	drop := "/etc/systemd/system/locksmith-serve.service.d/listen.conf"
	run("cp", "/listen.conf", drop)
	run("systemctl", "daemon-reload")
	run("systemctl", "start", "locksmith-serve.service")
	ask(0, "pre-reboot", "web-1")
	status, err := os.ReadFile("/proc/" + property("MainPID") + "/status")
	must.Do(t, err)
	if strings.Contains(string(status), "\nUid:\t0\t") || !strings.Contains(string(status), "\nCapEff:\t0000000000000000\n") {
		t.Errorf("the process is\n%s", status)
	}
	if text := property("StatusText"); !strings.HasPrefix(text, "serves 1 group at http://"+addresses[0]) {
		t.Errorf("the status is %s", text)
	}
	must.Do(t, os.MkdirAll("/etc/locksmith/groups.d", 0o755))
	for _, name := range []string{"default", "db"} {
		must.Do(t, os.WriteFile(fmt.Sprintf("/etc/locksmith/groups.d/%s.conf", name), nil, 0o644))
	}
	run("systemctl", "reload", "locksmith-serve.service")
	must.Eventually(t, patience, "the groups to be read", func() bool { return strings.HasPrefix(property("StatusText"), "serves 2 groups") })
	run("systemctl", "stop", "locksmith-serve.service")
	if result := property("Result"); result != "success" {
		t.Errorf("it ends with %s", result)
	}

	// A certificate that a group may read is renewed without a restart.
	run("systemd-sysusers")
	install := func(name string) {
		t.Helper()
		for _, ext := range []string{".key", ".pem"} {
			from := "/etc/locksmith/" + name + ext
			run("chgrp", "locksmith", from)
			must.Do(t, os.Chmod(from, 0o640))
			must.Do(t, os.Rename(from, "/etc/locksmith/server"+ext))
		}
	}
	served := func() string {
		c, err := tls.Dial("tcp", addresses[0], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	install("first")
	run("cp", "/tls.conf", drop)
	run("systemctl", "daemon-reload")
	run("systemctl", "start", "locksmith-serve.service")
	if name := served(); name != "first" {
		t.Errorf("the certificate is %s", name)
	}
	pid := property("MainPID")
	install("second")
	must.Eventually(t, patience, "the new certificate", func() bool { return served() == "second" })
	if now := property("MainPID"); now != pid {
		t.Errorf("the process was %s, and is %s", pid, now)
	}
	run("systemctl", "stop", "locksmith-serve.service")

	must.Do(t, os.Remove(drop))
	run("systemctl", "daemon-reload")
	run("systemctl", "start", "locksmith-serve.socket")
	if state := property("ActiveState"); state != "inactive" {
		t.Errorf("before the first connection the server is %s", state)
	}
	ask(1, "steady-state", "web-1")
	run("systemctl", "restart", "locksmith-serve.service")
	ask(1, "pre-reboot", "web-2")
	run("systemctl", "stop", "locksmith-serve.socket", "locksmith-serve.service")
}
