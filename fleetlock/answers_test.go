package fleetlock_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
)

var web1 = fleetlock.Params{ID: "web-1", Group: "workers"}

// answerWith starts a server that sends bytes to whoever has sent a request, and returns its address. The requests come
// out of the channel.
func answerWith(t *testing.T, answer []byte, thenClose bool) (address string, requests <-chan *http.Request) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	received := make(chan *http.Request, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				req, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				received <- req
				_, _ = conn.Write(answer)
				if !thenClose {
					_, _ = io.Copy(io.Discard, reader) // until the client closes it
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String(), received
}

// said describes an error of a client as the table of answers does.
func said(err error, address string) (lines []string) {
	var e *fleetlock.Error
	switch {
	case err == nil:
		return []string{"= granted"}
	case errors.Is(err, fleetlock.ErrUnknown):
		lines = append(lines, "= unknown")
	default:
		lines = append(lines, "= refused")
	}
	if errors.As(err, &e) {
		lines = append(lines, "= kind: "+e.Kind)
	}
	return append(lines, "= "+strings.ReplaceAll(err.Error(), address, "SERVER"))
}

// TestAnswers has the client read each answer of testdata/answers.txt.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, e := range entries(t, "answers.txt", '<', "=") {
		t.Run(e.title, func(t *testing.T) {
			t.Parallel()
			address, _ := answerWith(t, e.message.bytes(), e.message.ended)
			client, err := fleetlock.NewClient("http://"+address, fleetlock.ClientOptions{})
			must.Do(t, err)
			err = client.PreReboot(bounded(t), web1)
			if got, want := strings.Join(said(err, address), "\n"), strings.Join(e.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not one line of printable text", err)
			}
		})
	}
}
