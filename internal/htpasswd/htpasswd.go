// Package htpasswd checks passwords against files as `htpasswd -B` writes them.
//
// To check a password costs tens of milliseconds of a processor, and is meant to. So a right one is remembered for as
// long as its line stays as it is, and costs nothing from then on; only one is checked at a time; and of the same
// origin, see package origin, only one after another, with a second after each that was wrong. A client that tries
// passwords keeps others waiting only for its turn.
//
// What is remembered are keyed hashes, one for each hash of the files, in memory only.
package htpasswd

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/locksmithd/locksmith/internal/origin"
	"github.com/locksmithd/locksmith/internal/readfile"
)

const (
	// maxFile bounds a file, in bytes: some thousand users.
	maxFile = 1 << 20
	// maxCost is the highest cost of a hash: 15 takes seconds.
	maxCost = 14

	// patience is how long a client may have to wait until its password is checked.
	patience = 10 * time.Second
	// maxRight is how many right passwords are remembered. All are forgotten when there are more.
	maxRight = 16 << 10
	// penalty is how long the next password of the same origin waits after one that was wrong.
	penalty = time.Second
)

// ErrBusy is why a password was not checked.
var ErrBusy = errors.New("too many passwords wait to be checked: ask again")

// Checker checks passwords for any number of files.
type Checker struct {
	key     []byte                            // of what is remembered; random
	turn    chan struct{}                     // holds a token, unless a password is being checked
	compare func(hash, password []byte) error // of bcrypt

	mu    sync.Mutex
	lanes map[string]*lane  // by origin
	right map[string][]byte // the keyed hash of the right password, by its hash in a file
	wrong map[string]bool   // for CheckEach: a hash in a file, with the keyed hash of a password that is another one's
}

// lane is where the clients of an origin wait.
type lane struct {
	turn  chan struct{} // like that of a Checker
	count int           // of those who are in it
}

// NewChecker returns a Checker.
func NewChecker() *Checker {
	return &Checker{key: []byte(rand.Text()), turn: newTurn(), compare: bcrypt.CompareHashAndPassword, lanes: map[string]*lane{}, right: map[string][]byte{}, wrong: map[string]bool{}}
}

func newTurn() chan struct{} {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return turn
}

// Users are the users of a file. They are safe for concurrent use.
type Users struct {
	checker *Checker
	hashes  map[string][]byte
	any     []byte // one of the hashes
}

// Read reads a file. An error names it and the line.
func (c *Checker) Read(path string) (*Users, error) {
	data, err := readfile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	u := &Users{checker: c, hashes: map[string][]byte{}}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := u.add(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	if len(u.hashes) == 0 {
		return nil, fmt.Errorf("%s has no user in it: add one with htpasswd -B", path)
	}
	return u, nil
}

// add adds the user of a line. The error does not repeat the line, which may be a password.
func (u *Users) add(line string) error {
	user, hash, found := strings.Cut(line, ":")
	switch {
	case !found || user == "":
		return errors.New("it is not USER:HASH: write the line with htpasswd -B")
	case !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("the user has characters that cannot be printed")
	case u.hashes[user] != nil:
		return fmt.Errorf("user %s is there twice: delete one of the lines", user)
	}
	u.any = []byte(hash)
	switch cost, err := bcrypt.Cost([]byte(hash)); {
	case err != nil || len(hash) != 60:
		return fmt.Errorf("the hash of user %s is not one of bcrypt: write the line with htpasswd -B", user)
	case cost > maxCost:
		return fmt.Errorf("the hash of user %s has cost %d, which takes too long to check: write the line with htpasswd -B -C 12, and %d at most", user, cost, maxCost)
	}
	u.hashes[user] = u.any
	return nil
}

// Check reports whether the password is that of the user. An error, which is that of ctx or ErrBusy, means that this is
// not known. address is that of the client.
func (u *Users) Check(ctx context.Context, address, user, password string) (bool, error) {
	hash, exists := u.hashes[user]
	if user == "" || password == "" {
		return false, nil
	}
	if !exists {
		// It takes as long as for a user who exists.
		return u.checker.check(ctx, address, u.any, password, nil)
	}
	sum := u.checker.sum(password)
	if u.checker.remembers(hash, sum) {
		return true, nil
	}
	return u.checker.check(ctx, address, hash, password, sum)
}

// CheckEach reports for each file whether the password is that of the user, as Check does, at the cost of one wrong
// password at most. Where it is right for one of the files, it is remembered for which others it is wrong.
func (c *Checker) CheckEach(ctx context.Context, address, user, password string, files []*Users) ([]bool, error) {
	right := make([]bool, len(files))
	if user == "" || password == "" || len(files) == 0 {
		return right, nil
	}
	sum := c.sum(password)
	some, unknown := false, false
	for i, u := range files {
		hash, exists := u.hashes[user]
		right[i] = exists && c.remembers(hash, sum)
		some = some || right[i]
		unknown = unknown || exists && !right[i] && !c.remembersWrong(hash, sum)
	}
	if some && !unknown {
		return right, nil
	}
	ok, err := c.inTurn(ctx, address, func() bool {
		compared, some := false, false
		for i, u := range files {
			hash, exists := u.hashes[user]
			if !exists || c.remembersWrong(hash, sum) {
				continue
			}
			if right[i] = c.remembers(hash, sum); !right[i] {
				compared = true
				right[i] = c.compare(hash, []byte(password)) == nil
			}
			if right[i] {
				some = true
				c.remember(hash, sum)
			}
		}
		if !compared && !some { // It takes as long as for a user who exists.
			_ = c.compare(files[0].any, []byte(password))
		}
		if some {
			c.rememberWrong(user, sum, files, right)
		}
		return some
	})
	if err != nil || !ok {
		return make([]bool, len(files)), err
	}
	return right, nil
}

func (c *Checker) remembersWrong(hash, sum []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong[string(hash)+string(sum)]
}

// rememberWrong notes for which files a password is wrong.
func (c *Checker) rememberWrong(user string, sum []byte, files []*Users, right []bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, u := range files {
		if hash, exists := u.hashes[user]; exists && !right[i] {
			if len(c.wrong) >= maxRight {
				clear(c.wrong)
			}
			c.wrong[string(hash)+string(sum)] = true
		}
	}
}

// sum returns the keyed hash of a password.
func (c *Checker) sum(password string) []byte {
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte(password))
	return mac.Sum(nil)
}

// remembers reports whether the password of a keyed hash is known to be the right one.
func (c *Checker) remembers(hash, sum []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return hmac.Equal(c.right[string(hash)], sum)
}

func (c *Checker) remember(hash, sum []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.right) >= maxRight {
		clear(c.right)
	}
	c.right[string(hash)] = sum
}

// check checks a password when it is its turn, unless it is known by then to be right: a whole fleet may have the same
// one. sum is what to remember; nil if no password is right.
func (c *Checker) check(
	ctx context.Context, address string, hash []byte, password string, sum []byte,
) (ok bool, err error) {
	return c.inTurn(ctx, address, func() bool {
		known := sum != nil && c.remembers(hash, sum)
		right := known || c.compare(hash, []byte(password)) == nil && sum != nil
		if right {
			c.remember(hash, sum)
		}
		return right
	})
}

// inTurn calls f, which checks a password, when it is the turn of a client. f returns whether it is right.
func (c *Checker) inTurn(ctx context.Context, address string, f func() bool) (ok bool, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, patience, ErrBusy)
	defer cancel()
	from := origin.Of(address)
	l := c.enter(from)
	defer c.leave(from)
	for _, turn := range []chan struct{}{l.turn, c.turn} {
		select {
		case <-turn:
		case <-limited.Done():
			if turn == c.turn {
				l.turn <- struct{}{}
			}
			return false, context.Cause(limited)
		}
	}
	ok = f()
	c.turn <- struct{}{}
	if !ok {
		pause := time.NewTimer(penalty)
		defer pause.Stop()
		<-pause.C // also if the client hangs up
	}
	l.turn <- struct{}{}
	return ok, nil
}

func (c *Checker) enter(from string) *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[from]
	if l == nil {
		l = &lane{turn: newTurn()}
		c.lanes[from] = l
	}
	l.count++
	return l
}

func (c *Checker) leave(from string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lanes[from]; l.count == 1 {
		delete(c.lanes, from)
	} else {
		l.count--
	}
}
