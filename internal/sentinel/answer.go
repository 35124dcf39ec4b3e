package sentinel

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/replacefile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// AnswerPath is the file by which the unit that runs the command tells the daemon what it says. An exit status could
// not tell: systemd forgets the exit status of a unit that has not failed, and a program that fails may exit with 1 as
// well.
const AnswerPath = "/run/locksmith/sentinel.json"

// maxAnswer bounds the file, in bytes.
const maxAnswer = 64 << 10

// answer is the content of the file.
type answer struct {
	Command string `json:"command"` // that was run
	Needed  bool   `json:"needed"`
	Reason  string `json:"reason,omitempty"`
}

// WriteAnswer writes what the command said to the file below root. s has no error.
func (c Command) WriteAnswer(root string, s State) error {
	data, err := json.Marshal(answer{c.Text, s.Needed, s.Reason})
	if err != nil {
		return err
	}
	return replacefile.Write(filepath.Join(root, AnswerPath), append(data, '\n'), 0o600, 0o755)
}

// readAnswer returns what a command said.
func readAnswer(root, command string) State {
	data, err := readfile.Read(filepath.Join(root, AnswerPath), maxAnswer)
	var a answer
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	switch {
	case err != nil:
		return State{Err: fmt.Errorf("%s has ended without an answer: %w", Unit, err)}
	case a.Command != command:
		return State{Err: fmt.Errorf("%s has run another command, %s: after a change of the settings reload locksmithd", Unit, safetext.Clean(a.Command))}
	}
	return State{Needed: a.Needed, Reason: safetext.Cut(a.Reason, maxReason)}
}

// forgetAnswer removes what was said before.
func forgetAnswer(root string) error {
	if err := os.Remove(filepath.Join(root, AnswerPath)); !readfile.Absent(err) {
		return err
	}
	return nil
}
