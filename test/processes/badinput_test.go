package processes

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// A wrong setting, flag, argument or file causes one clear sentence that names it and a non-zero exit status.
// Nothing changes in etcd or on the host.
func TestBadInputIsOneSentenceAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	g := newGroup(t, s)
	g.lock("other")
	before := revision(t, s)
	ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
	good := ca.MustIssue(t, etcdtest.Certificate{CommonName: "good"})
	foreign := other.MustIssue(t, etcdtest.Certificate{CommonName: "foreign"})
	expired := ca.MustIssue(t, etcdtest.Certificate{CommonName: "old", NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)})
	early := ca.MustIssue(t, etcdtest.Certificate{CommonName: "new", NotBefore: time.Now().Add(24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)})

	const conf, machineID = "etc/flatcar/update.conf", "etc/machine-id"
	// replace replaces a file by something else, such as a folder or a huge file.
	replace := func(path string, with func(path string) error) func(h *host) {
		return func(h *host) {
			must.Do(h.t, os.Remove(h.Path(path)))
			if with != nil {
				must.Do(h.t, with(h.Path(path)))
			}
		}
	}
	mkdir := func(path string) error { return os.Mkdir(path, 0o755) }
	huge := func(path string) error { // 100 MB, sparse
		if err := os.WriteFile(path, []byte("REBOOT_STRATEGY=reboot\n"), 0o644); err != nil {
			return err
		}
		return os.Truncate(path, 100<<20)
	}
	content := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	lines := func(more ...string) func(string) error { return content(g.conf(more...)) }

	for name, test := range map[string]struct {
		change func(h *host)
		env    []string
		args   []string
		status int      // 0 stands for 1
		says   []string // HOST stands for the host's folder
	}{
		"strategy":                 {change: replace(conf, lines("REBOOT_STRATEGY=Reboot")), says: []string{`REBOOT_STRATEGY="Reboot"`, "HOST/etc/flatcar/update.conf:5"}},
		"strategy in environment":  {env: []string{"REBOOT_STRATEGY=never"}, says: []string{`REBOOT_STRATEGY="never"`, "environment"}},
		"debug":                    {env: []string{"LOCKSMITHD_DEBUG=very"}, says: []string{`LOCKSMITHD_DEBUG="very"`, "true or false"}},
		"trigger groups":           {change: replace(conf, lines("LOCKSMITHD_TRIGGER_GROUPS=a:b")), says: []string{"LOCKSMITHD_TRIGGER_GROUPS", "update.conf:5"}},
		"window without length":    {change: replace(conf, lines("LOCKSMITHD_REBOOT_WINDOW_START=04:00")), says: []string{"LOCKSMITHD_REBOOT_WINDOW_START", "LOCKSMITHD_REBOOT_WINDOW_LENGTH", "update.conf:5"}},
		"window without start":     {env: []string{"REBOOT_WINDOW_LENGTH=1h"}, says: []string{"REBOOT_WINDOW_LENGTH", "REBOOT_WINDOW_START", "environment"}},
		"window with pm":           {change: replace(conf, lines("LOCKSMITHD_REBOOT_WINDOW_START=2:00pm", "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h")), says: []string{`LOCKSMITHD_REBOOT_WINDOW_START="2:00pm"`, "update.conf:5"}},
		"window with junk":         {change: replace(conf, lines("LOCKSMITHD_REBOOT_WINDOW_START=14:00foo", "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h")), says: []string{`LOCKSMITHD_REBOOT_WINDOW_START="14:00foo"`, "update.conf:5"}},
		"window of no length":      {change: replace(conf, lines("LOCKSMITHD_REBOOT_WINDOW_START=14:00", "LOCKSMITHD_REBOOT_WINDOW_LENGTH=0s")), says: []string{`LOCKSMITHD_REBOOT_WINDOW_LENGTH="0s"`, "update.conf:6"}},
		"window that never opens":  {change: replace(conf, lines("LOCKSMITHD_REBOOT_WINDOW_START=\"0 0 31 2 *\"", "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h")), says: []string{`LOCKSMITHD_REBOOT_WINDOW_START="0 0 31 2 *"`, "update.conf:5"}},
		"time zone":                {change: replace(conf, lines("LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=Europe/Atlantis")), says: []string{`LOCKSMITHD_REBOOT_WINDOW_TIMEZONE="Europe/Atlantis"`, "update.conf:5"}},
		"group ..":                 {args: []string{"-group=.."}, says: []string{`-group=".."`, "command line", "another group"}},
		"endpoint without scheme":  {args: []string{"-endpoint=127.0.0.1:2379"}, says: []string{"-endpoint", "http://127.0.0.1:2379"}},
		"endpoint with a path":     {args: []string{"-endpoint=http://127.0.0.1:2379/v2"}, says: []string{"-endpoint", "scheme, host and port"}},
		"endpoint of another kind": {args: []string{"-endpoint=unix:///run/etcd"}, says: []string{"-endpoint", "http or https"}},
		"endpoint with a password": {args: []string{"-endpoint=http://user:secret@127.0.0.1:2379"}, says: []string{"-endpoint=(hidden)", "LOCKSMITHD_ETCD_USERNAME"}},
		"port":                     {args: []string{"-endpoint=http://127.0.0.1:65536"}, says: []string{"-endpoint", "65535"}},
		"http and https":           {args: []string{"-endpoint=http://127.0.0.1:1", "-endpoint=https://127.0.0.1:1"}, says: []string{"-endpoint", "mix http and https"}},
		"certificate without key":  {args: []string{"-etcd-certfile=" + good.CertFile}, says: []string{"-etcd-certfile", "without -etcd-keyfile"}},
		"key without certificate":  {env: []string{"LOCKSMITHD_ETCD_KEYFILE=" + good.KeyFile}, says: []string{"LOCKSMITHD_ETCD_KEYFILE", "without LOCKSMITHD_ETCD_CERTFILE"}},
		"user without password":    {change: replace(conf, lines("LOCKSMITHD_ETCD_USERNAME=me")), says: []string{"LOCKSMITHD_ETCD_USERNAME", "without LOCKSMITHD_ETCD_PASSWORD"}},
		"password without user":    {change: replace(conf, lines("LOCKSMITHD_ETCD_PASSWORD=secret")), says: []string{"LOCKSMITHD_ETCD_PASSWORD=(hidden)", "without LOCKSMITHD_ETCD_USERNAME"}},
		"another's key":            {args: []string{"-endpoint=https://127.0.0.1:1", "-etcd-certfile=" + good.CertFile, "-etcd-keyfile=" + foreign.KeyFile}, says: []string{good.CertFile, foreign.KeyFile}},
		"expired certificate":      {args: []string{"-endpoint=https://127.0.0.1:1", "-etcd-certfile=" + expired.CertFile, "-etcd-keyfile=" + expired.KeyFile}, says: []string{expired.CertFile, "expired"}},
		"certificate of tomorrow":  {args: []string{"-endpoint=https://127.0.0.1:1", "-etcd-certfile=" + early.CertFile, "-etcd-keyfile=" + early.KeyFile}, says: []string{early.CertFile, "not valid before"}},
		"CA file missing":          {args: []string{"-endpoint=https://127.0.0.1:1", "-etcd-cafile=/nowhere/ca.pem"}, says: []string{"-etcd-cafile", "/nowhere/ca.pem"}},
		"CA file a folder":         {args: []string{"-endpoint=https://127.0.0.1:1", "-etcd-cafile=/"}, says: []string{"-etcd-cafile", "a directory, not a file"}},
		"CA file no certificate":   {args: []string{"-endpoint=https://127.0.0.1:1", "-etcd-cafile=" + good.KeyFile}, says: []string{"-etcd-cafile", "no certificate"}},
		"update.conf a folder":     {change: replace(conf, mkdir), says: []string{"HOST/etc/flatcar/update.conf", "directory"}},
		"update.conf 100 MB":       {change: replace(conf, huge), says: []string{"HOST/etc/flatcar/update.conf", "larger than"}},
		"update.conf not UTF-8":    {change: replace(conf, lines("LOCKSMITHD_GROUP=\xff\xfe")), says: []string{"HOST/etc/flatcar/update.conf", "UTF-8"}},
		"machine-id empty":         {change: replace(machineID, content(" \n")), says: []string{"HOST/etc/machine-id", "empty"}},
		"machine-id missing":       {change: replace(machineID, nil), says: []string{"HOST/etc/machine-id", "no such file"}},
		"machine-id a folder":      {change: replace(machineID, mkdir), says: []string{"HOST/etc/machine-id", "directory"}},
		"machine-id 100 MB":        {change: replace(machineID, huge), says: []string{"HOST/etc/machine-id", "larger than"}},
		"machine-id not UTF-8":     {change: replace(machineID, content("\xff\xfe\n")), says: []string{"HOST/etc/machine-id", "not an id"}},
		"machine-id of two words":  {change: replace(machineID, content("one two\n")), says: []string{"HOST/etc/machine-id", "not an id"}},
		"machine-id uninitialized": {change: replace(machineID, content("uninitialized\n")), says: []string{"HOST/etc/machine-id", "first boot"}},
		"boot id empty":            {change: replace("proc/sys/kernel/random/boot_id", content("\n")), says: []string{"HOST/proc/sys/kernel/random/boot_id", "empty"}},
		"coordinator file a link":  {change: func(h *host) { must.Do(h.t, os.Symlink("elsewhere", h.coordinatorPath())) }, says: []string{"HOST/run/update-engine/coordinator.conf", "symbolic link"}},
		"coordinator file a folder": {change: func(h *host) { must.Do(h.t, os.Mkdir(h.coordinatorPath(), 0o755)) },
			says: []string{"HOST/run/update-engine/coordinator.conf", "directory"}},
		"unknown flag":           {args: []string{"-gruop=a"}, status: 2, says: []string{"-gruop", "-help"}},
		"flag without its value": {args: []string{"-group"}, status: 2, says: []string{"-group", "-help"}},
		"argument":               {args: []string{"start"}, status: 2, says: []string{`"start"`, "-help"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, g.conf(), withEnv(test.env...), withArgs(test.args...))
			h.Engine.Set(needReboot)
			if test.change != nil {
				test.change(h)
			}
			files := tree(t, h.Path(""))
			h.start()
			want := max(1, test.status)
			h.wantExit(want)
			for _, part := range test.says {
				if part = strings.ReplaceAll(part, "HOST", strings.TrimSuffix(h.Path(""), "/")); !strings.Contains(h.Log(), part) {
					t.Errorf("the log does not contain %q", part)
				}
			}
			if n := strings.Count(h.Log(), "\n"); n != 1 {
				t.Errorf("the log has %d lines, want 1", n)
			}
			if strings.Contains(h.Log(), "secret") {
				t.Error("the log contains the password")
			}
			if now := tree(t, h.Path("")); !slices.Equal(now, files) {
				t.Errorf("the host's files were\n%s\nand are\n%s", strings.Join(files, "\n"), strings.Join(now, "\n"))
			}
			h.wantNoReboot()
		})
	}
	if now := revision(t, s); now != before {
		t.Errorf("etcd was at revision %d and is at %d", before, now)
	}
	g.wantDocument(`{"semaphore":0,"max":1,"holders":["other"]}`)
}

// revision returns the revision of an etcd, which every change of any key raises.
func revision(t *testing.T, s *etcdtest.Server) int64 {
	t.Helper()
	client, err := s.Client()
	must.Do(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	response, err := client.Get(ctx, "any")
	must.Do(t, err)
	return response.Header.Revision
}

// tree lists everything below a folder, with sizes and modification times.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	must.Do(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		list = append(list, fmt.Sprintf("%s %v %d %v", path, info.Mode(), info.Size(), info.ModTime()))
		return nil
	}))
	return list
}
