package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// written returns what the lines of every kind look like on the standard error of a program.
func written(t *testing.T, environ ...string) string {
	var b bytes.Buffer
	stderr := New(&b, "program", environ)
	stderr.Error(errors.Join(errors.New("this is wrong"), errors.New("so is that")))
	level := new(slog.LevelVar)
	log := stderr.Logger(level, func() *time.Location { return time.FixedZone("", 3*60*60) })
	log.Debug("not shown")
	level.Set(slog.LevelDebug)
	log.Debug("shown now")
	log.Info("all is well")
	log.With("a", 1).Warn("take care")
	log.WithGroup("g").Error("it failed", "time", "of an attribute")
	must.Do(t, stderr.Announce("System reboot in 5 minutes!"))
	return b.String()
}

func TestJournalGetsPrioritiesAndNoTimes(t *testing.T) {
	const want = `<3>this is wrong
<3>so is that
<7>msg="shown now"
<6>msg="all is well"
<4>msg="take care" a=1
<3>msg="it failed" g.time="of an attribute"
<0>System reboot in 5 minutes!
`
	if got := written(t, "PATH=/bin", "JOURNAL_STREAM=8:1234"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestPeopleGetTimesInTheirZone(t *testing.T) {
	want := regexp.MustCompile(`^program: this is wrong
program: so is that
time=\S+\+03:00 level=DEBUG msg="shown now"
time=\S+\+03:00 level=INFO msg="all is well"
time=\S+\+03:00 level=WARN msg="take care" a=1
time=\S+\+03:00 level=ERROR msg="it failed" g.time="of an attribute"
System reboot in 5 minutes!
$`)
	if got := written(t, "PATH=/bin"); !want.MatchString(got) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// broken is a standard error that is closed.
type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestAnnouncementThatIsLostIsAnError(t *testing.T) {
	if err := New(broken{}, "program", nil).Announce("x"); !errors.Is(err, errBroken) {
		t.Errorf("the error is %v", err)
	}
}
