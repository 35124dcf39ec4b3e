package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/must"
)

// newSecrets returns a folder with files that only their owner can read.
func newSecrets(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte("geh3im\n"), 0o600))
	}
	return dir
}

func TestPasswordComesFromAFile(t *testing.T) {
	password := filepath.Join(newSecrets(t, "password"), "password")
	user := "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ETCD_USERNAME=u\n"
	file := "LOCKSMITHD_ETCD_PASSWORD_FILE=" + password + "\n"
	for _, test := range []struct {
		name, conf string
		flags      []Flag
		want       string // what the error begins with, "" for none
		then       string
	}{
		{"in update.conf", user + file, nil, "", ""},
		{"in a flag", user, []Flag{{"etcd-password-file", password}}, "", ""},
		{"beside a password", user + file + "LOCKSMITHD_ETCD_PASSWORD=geh3im\n", nil,
			`LOCKSMITHD_ETCD_PASSWORD_FILE="` + password + `" (CONF:3): `, "LOCKSMITHD_ETCD_PASSWORD=(hidden) (CONF:4) is set as well: set one of them"},
		{"without a user", "REBOOT_STRATEGY=etcd-lock\n" + file, nil,
			`LOCKSMITHD_ETCD_PASSWORD_FILE="` + password + `" (CONF:2): `, "it is set without LOCKSMITHD_ETCD_USERNAME"},
		{"that is missing", user + "LOCKSMITHD_ETCD_PASSWORD_FILE=/missing\n", nil, `LOCKSMITHD_ETCD_PASSWORD_FILE="/missing" (CONF:3): `, "no such file"},
		{"that is a directory", user, []Flag{{"etcd-password-file", "/etc"}}, `-etcd-password-file="/etc" (command line): `, "a directory, not a file"},
		{"with a name that spans lines", user, []Flag{{"etcd-password-file", "/\n"}}, `-etcd-password-file="/\n" (command line): `, "cannot be printed"},
	} {
		for _, program := range []Program{Daemon, CLI} {
			t.Run(string(program)+"/"+test.name, func(t *testing.T) {
				root := newRoot(t, map[string]string{etc: test.conf})
				conf := filepath.Join(root, etc)
				c, err := Load(Options{Program: program, Root: root, Flags: test.flags})
				if test.want == "" {
					if err != nil || c.Etcd.PasswordFile != password || c.Etcd.Password != "" || len(c.Warnings) > 0 {
						t.Errorf("got %+v, %v, warnings %q", c.Etcd, err, c.Warnings)
					}
					return
				}
				if err == nil {
					t.Fatal("accepted")
				}
				text := strings.ReplaceAll(err.Error(), conf, "CONF")
				if !strings.HasPrefix(text, test.want) || !strings.Contains(text, test.then) || strings.Contains(text, "\n") || strings.Contains(text, "geh3im") {
					t.Errorf("error %q, want %q and then %q", text, test.want, test.then)
				}
			})
		}
	}
}

func TestCredentialsCountWhereNothingElseIsSet(t *testing.T) {
	certs := newCertificates(t)
	dir := newSecrets(t, "locksmithd.etcd-password")
	key, err := os.ReadFile(certs.key)
	must.Do(t, err)
	must.Do(t, os.WriteFile(filepath.Join(dir, "locksmithd.etcd-key"), key, 0o400))
	other := filepath.Join(newSecrets(t, "other"), "other")
	const base = "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ETCD_USERNAME=u\nLOCKSMITHD_ENDPOINT=https://a:1\n"
	cert := "LOCKSMITHD_ETCD_CERTFILE=" + certs.cert + "\n"

	type result struct{ key, file, password, keyFrom, fileFrom string }
	load := func(conf, credentials string) (result, error) {
		t.Helper()
		root := newRoot(t, map[string]string{etc: conf})
		c, err := Load(Options{Program: Daemon, Root: root, Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials}})
		from := func(name string) string {
			return strings.ReplaceAll(c.setting(t, name).Origin.String(), filepath.Join(root, etc), "CONF")
		}
		return result{c.Etcd.KeyFile, c.Etcd.PasswordFile, c.Etcd.Password, from("etcd-keyfile"), from("etcd-password-file")}, err
	}
	for _, test := range []struct {
		name, conf, credentials string
		want                    result
	}{
		{"both", base + cert, dir, result{filepath.Join(dir, "locksmithd.etcd-key"), filepath.Join(dir, "locksmithd.etcd-password"), "",
			"credential locksmithd.etcd-key", "credential locksmithd.etcd-password"}},
		{"other files", base + cert + "LOCKSMITHD_ETCD_KEYFILE=" + certs.key + "\nLOCKSMITHD_ETCD_PASSWORD_FILE=" + other + "\n", dir,
			result{certs.key, other, "", "CONF:5", "CONF:6"}},
		{"a password", base + cert + "LOCKSMITHD_ETCD_PASSWORD=p\n", dir,
			result{filepath.Join(dir, "locksmithd.etcd-key"), "", "p", "credential locksmithd.etcd-key", "default"}},
		{"no such credentials", base + "LOCKSMITHD_ETCD_PASSWORD=p\n", t.TempDir(), result{"", "", "p", "default", "default"}},
		{"no credentials", base + "LOCKSMITHD_ETCD_PASSWORD=p\n", "", result{"", "", "p", "default", "default"}},
	} {
		if got, err := load(test.conf, test.credentials); err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
	if _, err := load(base, dir); err == nil || !strings.HasPrefix(err.Error(), `locksmithd.etcd-key="`+dir+`/locksmithd.etcd-key" (credential): it is set without LOCKSMITHD_ETCD_CERTFILE`) {
		t.Errorf("a key without its certificate: %v", err)
	}
	if _, err := load(base+"LOCKSMITHD_ETCD_PASSWORD_FILE=\n", dir); err == nil || !strings.Contains(err.Error(), "it is set without LOCKSMITHD_ETCD_PASSWORD:") {
		t.Errorf("an empty value does not hide the credential: %v", err)
	}
}

func TestSecretsThatOthersCanSeeAreWarnedAbout(t *testing.T) {
	certs := newCertificates(t)
	password := filepath.Join(newSecrets(t, "password"), "password")
	for _, file := range []string{password, certs.key} {
		must.Do(t, os.Chmod(file, 0o640))
	}
	root := newRoot(t, map[string]string{etc: "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=https://a:1\nLOCKSMITHD_ETCD_CERTFILE=" + certs.cert +
		"\nLOCKSMITHD_ETCD_KEYFILE=" + certs.key + "\nLOCKSMITHD_ETCD_USERNAME=u\nLOCKSMITHD_ETCD_PASSWORD_FILE=" + password + "\n"})
	conf := filepath.Join(root, etc)
	c := mustLoad(t, Options{Program: Daemon, Root: root})
	want := `LOCKSMITHD_ETCD_KEYFILE="KEY" (CONF:4): users other than its owner may read KEY (mode 0640): run chmod 600 KEY
LOCKSMITHD_ETCD_PASSWORD_FILE="PASSWORD" (CONF:6): users other than its owner may read PASSWORD (mode 0640): run chmod 600 PASSWORD`
	if got := strings.NewReplacer(conf, "CONF", certs.key, "KEY", password, "PASSWORD").Replace(strings.Join(c.Warnings, "\n")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	root = newRoot(t, map[string]string{etc: "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ETCD_USERNAME=u\nLOCKSMITHD_ETCD_PASSWORD=geh3im\n"})
	conf = filepath.Join(root, etc)
	must.Do(t, os.Chmod(conf, 0o644))
	c = mustLoad(t, Options{Program: CLI, Root: root})
	want = "LOCKSMITHD_ETCD_PASSWORD=(hidden) (CONF:3): users other than its owner may read CONF (mode 0644): run chmod 600 CONF"
	if got := strings.ReplaceAll(strings.Join(c.Warnings, "\n"), conf, "CONF"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	flags := []Flag{{"etcd-username", "u"}, {"etcd-password", "geh3im"}}
	root = newRoot(t, map[string]string{etc: "REBOOT_STRATEGY=etcd-lock\n"})
	c = mustLoad(t, Options{Program: Daemon, Root: root, Flags: flags})
	want = "-etcd-password=(hidden) (command line): every user of this host can see it with ps: write it into a file and set LOCKSMITHD_ETCD_PASSWORD_FILE"
	if got := strings.Join(c.Warnings, "\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoPasswordIsEverShown(t *testing.T) {
	const secret = "geh3im"
	tests := []struct {
		name    string
		conf    string
		flags   []Flag
		environ []string
	}{
		{"right", "LOCKSMITHD_ETCD_USERNAME=u\nLOCKSMITHD_ETCD_PASSWORD=" + secret + "\n", nil, nil},
		{"without a user", "LOCKSMITHD_ETCD_PASSWORD=" + secret + "\n", nil, nil},
		{"flag", "", []Flag{{"etcd-password", secret}}, nil},
		{"environment", "", nil, []string{"LOCKSMITHCTL_ETCD_PASSWORD=" + secret, "LOCKSMITHD_ETCD_PASSWORD=" + secret}},
		{"misspelt", "LOCKSMITHD_ETCD_PASWORD=" + secret + "\n", nil, nil},
		{"exported", "export LOCKSMITHD_ETCD_PASSWORD=" + secret + "\n", nil, nil},
		{"without an equals sign", "LOCKSMITHD_ETCD_PASSWORD " + secret + "\n", nil, nil},
		{"not UTF-8", "LOCKSMITHD_ETCD_PASSWORD=" + secret + "\xff\n", nil, nil},
		{"in an endpoint", "LOCKSMITHD_ENDPOINT=http://user:" + secret + "@10.0.0.1:2379\n", nil, nil},
		{"in the path of a web hook", "LOCKSMITHD_NOTIFY_URL=https://hooks.example/services/" + secret + "\n", nil, nil},
		{"in its path, in the environment", "", nil, []string{"LOCKSMITHD_NOTIFY_URL=https://hooks.example/services/" + secret}},
		{"in its query", "LOCKSMITHD_NOTIFY_URL=https://hooks.example?key=" + secret + "\n", nil, nil},
		{"as its user", "LOCKSMITHD_NOTIFY_URL=http://user:" + secret + "@hooks.example\n", nil, nil},
		{"in its fragment", "LOCKSMITHD_NOTIFY_URL=https://hooks.example#" + secret + "\n", nil, nil},
		{"without a scheme", "LOCKSMITHD_NOTIFY_URL=hooks.example/" + secret + "\n", nil, nil},
		{"with a slash too few", "LOCKSMITHD_NOTIFY_URL=https:/" + secret + "/services\n", nil, nil},
		{"with a blank", "LOCKSMITHD_NOTIFY_URL=\"https://hooks.example/a " + secret + "\"\n", nil, nil},
		{"that cannot be parsed", "LOCKSMITHD_NOTIFY_URL=https://hooks.example/%" + secret + "\n", nil, nil},
		{"behind a misspelt name", "LOCKSMITHD_NOTIFY_URLS=https://hooks.example/" + secret + "\n", nil, nil},
		{"behind an exported one", "export LOCKSMITHD_NOTIFY_URL=https://hooks.example/" + secret + "\n", nil, nil},
		{"in an endpoint, with special characters", "LOCKSMITHD_ENDPOINT=http://user:" + secret + "/%@" + secret + ",@10.0.0.1:2379\n", nil, nil},
	}
	for _, test := range tests {
		for _, program := range []Program{Daemon, CLI} {
			root := newRoot(t, map[string]string{etc: test.conf, usr: "REBOOT_STRATEGY=etcd-lock\n"})
			c, err := Load(Options{Program: program, Root: root, Flags: test.flags, Environ: test.environ})
			c.Etcd = etcd.Config{} // which needs it
			if out := fmt.Sprintf("%v\n%+v", err, *c); strings.Contains(out, secret) {
				t.Errorf("%s, %s: %s", program, test.name, out)
			}
		}
	}
	root := newRoot(t, map[string]string{etc: tests[0].conf})
	c := mustLoad(t, Options{Program: CLI, Root: root})
	if s := c.setting(t, "etcd-password"); s.Value != "(hidden)" || c.Etcd.Password != secret {
		t.Errorf("password is %q, %+v", c.Etcd.Password, s)
	}
}
