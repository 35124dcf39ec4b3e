package fleetlock_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// message is a request or an answer, made of lines of a table in testdata.
type message struct {
	head, body bytes.Buffer
	inBody     bool
	ended      bool // its side of the connection is closed
}

// add adds a line, which begins with a character for the direction. The introductions of the tables say what it means.
func (m *message) add(line string) error {
	to := &m.head
	if m.inBody {
		to = &m.body
	}
	mark, text, _ := strings.Cut(line[1:], " ")
	switch mark {
	case "+":
		raw, err := strconv.Unquote(text)
		to.WriteString(raw)
		return err
	case "*":
		var times int
		var what string
		_, err := fmt.Sscanf(text, "%d %q", &times, &what)
		to.WriteString(strings.Repeat(what, times))
		return err
	case ".":
		m.ended = true
	case "":
		if m.inBody {
			if m.body.Len() > 0 {
				m.body.WriteByte('\n')
			}
			m.body.WriteString(text)
		} else {
			m.head.WriteString(text + "\r\n")
			m.inBody = text == ""
		}
	default:
		return fmt.Errorf("the mark %q is not known", mark)
	}
	return nil
}

// bytes returns the message as it is on the wire.
func (m *message) bytes() []byte {
	head := strings.ReplaceAll(m.head.String(), "{length}", strconv.Itoa(m.body.Len()))
	return append([]byte(head), m.body.Bytes()...)
}

// entry is a paragraph of a table: a message, and what comes of it.
type entry struct {
	title   string
	handler string // after "@", in the table of requests
	message message
	want    []string
}

// entries reads a table. The lines of a message begin with a direction, and those of what comes of it with one of two
// others.
func entries(t *testing.T, name string, direction byte, outcome string) (all []entry) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	must.Do(t, err)
	_, table, found := strings.Cut(string(data), "\n\n\n")
	if !found {
		t.Fatalf("%s has no table below an introduction", name)
	}
	for block := range strings.SplitSeq(strings.TrimSpace(table), "\n\n") {
		var e entry
		for line := range strings.SplitSeq(block, "\n") {
			switch {
			case strings.HasPrefix(line, "# "):
				e.title = strings.TrimSpace(e.title + line[1:])
			case strings.HasPrefix(line, "@ "):
				e.handler = line[2:]
			case line != "" && line[0] == direction:
				if err := e.message.add(line); err != nil {
					t.Fatalf("%s, %s: the line %q: %v", name, e.title, line, err)
				}
			case line != "" && strings.Contains(outcome, line[:1]):
				e.want = append(e.want, line)
			default:
				t.Fatalf("%s, %s: the line %q begins with an unknown character", name, e.title, line)
			}
		}
		all = append(all, e)
	}
	if len(all) < 40 {
		t.Fatalf("%s: only %d entries were found", name, len(all))
	}
	return all
}
