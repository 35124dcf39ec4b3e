package htpasswd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// line returns a line for a user.
func line(t *testing.T, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must.Do(t, err)
	return user + ":" + string(hash) + "\n"
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "default.users")
	must.Do(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func mustRead(t *testing.T, content string) *Users {
	t.Helper()
	u, err := NewChecker().Read(write(t, content))
	must.Do(t, err)
	return u
}

func (u *Users) mustCheck(t *testing.T, address, user, password string, want bool) {
	t.Helper()
	if ok, err := u.Check(t.Context(), address, user, password); ok != want || err != nil {
		t.Errorf("user %q with password %q: %v, %v, want %v", user, password, ok, err, want)
	}
}

func TestPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mustRead(t, "# users of the web servers\n\n"+line(t, "web", "sesame")+strings.TrimSuffix(line(t, "db", "open: sesame"), "\n"))
		for range 2 {
			u.mustCheck(t, "a", "web", "sesame", true)
			u.mustCheck(t, "a", "db", "open: sesame", true)
			u.mustCheck(t, "a", "web", "open: sesame", false)
			u.mustCheck(t, "a", "web", "sesame\x00", false)
			u.mustCheck(t, "a", "web", "", false)
			u.mustCheck(t, "a", "nobody", "sesame", false)
			u.mustCheck(t, "a", "", "", false)
		}
		// Somebody unknown is not let in with the password of another user.
		u.mustCheck(t, "a", "nobody", "open: sesame", false)
		// A user of one file is not one of another.
		other, err := u.checker.Read(write(t, line(t, "web", "other")))
		must.Do(t, err)
		other.mustCheck(t, "a", "web", "sesame", false)
		other.mustCheck(t, "a", "web", "other", true)
	})
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	good := line(t, "web", "sesame")
	for content, want := range map[string]string{
		"":                      " has no user in it: add one with htpasswd -B",
		"# nobody\n":            " has no user in it: add one with htpasswd -B",
		good + "secret\n":       ":2: it is not USER:HASH: write the line with htpasswd -B",
		":" + good:              ":1: it is not USER:HASH: write the line with htpasswd -B",
		good + good:             ":2: user web is there twice: delete one of the lines",
		"web:{SHA}0DPiKuNIrrVm": ":1: the hash of user web is not one of bcrypt: write the line with htpasswd -B",
		"web:$apr1$x$y":         ":1: the hash of user web is not one of bcrypt: write the line with htpasswd -B",
		"web:" + strings.Replace(good[4:], "$04$", "$15$", 1): ":1: the hash of user web has cost 15, which takes too long to check: write the line with htpasswd -B -C 12, and 14 at most",
		strings.TrimSuffix(good, "\n") + "x":                  ":1: the hash of user web is not one of bcrypt: write the line with htpasswd -B",
		"a\x1bb" + good[3:]:                                   ":1: the user has characters that cannot be printed",
	} {
		path := write(t, content)
		if _, err := NewChecker().Read(path); err == nil || err.Error() != path+want {
			t.Errorf("%q: %v, want %s%s", content, err, path, want)
		}
	}
	if _, err := NewChecker().Read(filepath.Join(t.TempDir(), "missing.users")); err == nil || !strings.Contains(err.Error(), "missing.users") {
		t.Errorf("a file that is missing: %v", err)
	}
}

// Somebody tries one password after another, in many connections at once.
func TestTryingPasswordsIsSlowAndHindersNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mustRead(t, line(t, "web", "sesame")+line(t, "db", "sesame"))
		u.mustCheck(t, "good", "web", "sesame", true)
		begin := time.Now()
		tried, busy := make(chan bool, 100), 0
		for i := range 100 {
			go func() {
				ok, err := u.Check(t.Context(), "bad", "web", fmt.Sprint(i))
				if ok || err != nil && !errors.Is(err, ErrBusy) {
					t.Errorf("attempt %d: %v, %v", i, ok, err)
				}
				tried <- err == nil
			}()
		}
		synctest.Wait()
		u.mustCheck(t, "good", "web", "sesame", true)
		u.mustCheck(t, "bad", "web", "sesame", true) // it is remembered, also for clients of the same address
		u.mustCheck(t, "good", "db", "sesame", true)
		if took := time.Since(begin); took != 0 {
			t.Errorf("others waited for %v", took)
		}
		for range 100 {
			if !<-tried {
				busy++
			}
		}
		if took := time.Since(begin); busy < 85 || took > 15*time.Second {
			t.Errorf("%d of 100 attempts were not tried, in %v", busy, took)
		}
		if n := len(u.checker.lanes); n != 0 {
			t.Errorf("%d addresses are left", n)
		}
	})
}

// A fleet with one password asks at once, before and after the file has changed.
func TestOnePasswordIsCheckedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := line(t, "web", "sesame")
		u := mustRead(t, web)
		compared, compare := 0, u.checker.compare
		u.checker.compare = func(hash, password []byte) error { // one at a time
			compared++
			time.Sleep(time.Second)
			return compare(hash, password)
		}
		fleet := func(u *Users, password string) {
			t.Helper()
			let := make(chan bool)
			for i := range 1000 {
				go func() {
					ok, _ := u.Check(t.Context(), fmt.Sprint("host-", i), "web", password)
					let <- ok
				}()
			}
			in := 0
			for range 1000 {
				if <-let {
					in++
				}
			}
			if in != 1000 {
				t.Errorf("%d of 1000 are let in", in)
			}
		}
		fleet(u, "sesame")
		changed, err := u.checker.Read(write(t, web+line(t, "db", "other")))
		must.Do(t, err)
		fleet(changed, "sesame")
		if compared != 1 {
			t.Errorf("it was checked %d times", compared)
		}
		changed, err = u.checker.Read(write(t, line(t, "web", "new")))
		must.Do(t, err)
		changed.mustCheck(t, "a", "web", "sesame", false)
		fleet(changed, "new")
		if compared != 3 {
			t.Errorf("it was checked %d times", compared)
		}
	})
}

// The addresses of one IPv6 network are one lane.
func TestNetworkTriesOnePasswordAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mustRead(t, line(t, "web", "sesame"))
		begin := time.Now()
		done := make(chan struct{})
		for i := range 5 {
			go func() {
				u.mustCheck(t, fmt.Sprintf("2001:db8::%d", i), "web", "wrong", false)
				done <- struct{}{}
			}()
		}
		for range 5 {
			<-done
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("five attempts took %v", took)
		}
	})
}

func TestClientThatGoesAwayGivesItsTurnBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mustRead(t, line(t, "web", "sesame"))
		<-u.checker.turn
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := u.Check(ctx, "a", "web", "sesame"); done <- err }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		u.checker.turn <- struct{}{}
		u.mustCheck(t, "a", "web", "sesame", true)
	})
}

// What a real htpasswd writes.
func TestLinesOfHtpasswd(t *testing.T) {
	realpart.Must(t, realpart.Tool("htpasswd", "apache2-utils"))
	path := write(t, "")
	out, err := exec.Command("htpasswd", "-bB", path, "web", "sesame").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	u, err := NewChecker().Read(path)
	must.Do(t, err)
	u.mustCheck(t, "a", "web", "sesame", true)
}

func TestPasswordIsCheckedForSeveralFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecker()
		var files []*Users
		for _, content := range []string{
			line(t, "web", "sesame") + line(t, "ann", "both"), line(t, "web", "other") + line(t, "ann", "both"), line(t, "db", "sesame"),
		} {
			u, err := c.Read(write(t, content))
			must.Do(t, err)
			files = append(files, u)
		}
		compared, compare := 0, c.compare
		c.compare = func(hash, password []byte) error {
			compared++
			return compare(hash, password)
		}
		for _, test := range []struct {
			user, password string
			want           []bool
			compared       int
			takes          time.Duration
		}{
			{"web", "sesame", []bool{true, false, false}, 2, 0},
			{"web", "sesame", []bool{true, false, false}, 0, 0}, // remembered
			{"web", "other", []bool{false, true, false}, 2, 0},
			{"web", "other", []bool{false, true, false}, 0, 0},
			{"web", "sesame", []bool{true, false, false}, 0, 0},
			{"ann", "both", []bool{true, true, false}, 2, 0},
			{"db", "sesame", []bool{false, false, true}, 1, 0},
			{"web", "wrong", []bool{false, false, false}, 2, penalty},
			{"web", "wrong", []bool{false, false, false}, 2, penalty},
			{"nobody", "sesame", []bool{false, false, false}, 1, penalty},
			{"web", "", []bool{false, false, false}, 0, 0},
			{"", "sesame", []bool{false, false, false}, 0, 0},
		} {
			began := time.Now()
			compared = 0
			got, err := c.CheckEach(t.Context(), "a", test.user, test.password, files)
			if took := time.Since(began); err != nil || !slices.Equal(got, test.want) || took != test.takes {
				t.Errorf("user %q with password %q: %v, %v in %v, want %v in %v", test.user, test.password, got, err, took, test.want, test.takes)
			}
			if compared != test.compared {
				t.Errorf("user %q with password %q: %d were compared, want %d", test.user, test.password, compared, test.compared)
			}
		}
	})
}
