package fleetlock_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
)

// again is a request that has to work on a connection that stays open, below a prefix.
const again = "POST %s/v1/steady-state HTTP/1.1\r\nHost: a\r\nFleet-Lock-Protocol: true\r\nContent-Length: 47\r\n\r\n" +
	`{"client_params":{"id":"again","group":"test"}}`

// TestConformance sends each request of testdata/requests.txt byte for byte, and compares the whole answer.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, e := range entries(t, "requests.txt", '>', "=<") {
		t.Run(e.title, func(t *testing.T) {
			t.Parallel()
			s := &scripted{}
			h := &fleetlock.Handler{Server: s, Log: s.log}
			switch e.handler {
			case "":
			case "prefix":
				h.Prefix = "/reboots"
			case "impatient":
				h.SetBodyTime(20 * time.Millisecond)
			default:
				t.Fatalf("there is no handler %q", e.handler)
			}
			conn, err := net.Dial("tcp", serve(t, h))
			must.Do(t, err)
			defer conn.Close()
			must.Do(t, conn.SetDeadline(time.Now().Add(patience)))
			request := e.message.bytes()
			// The server does not read all of a long request: only its answer matters.
			go func() {
				_, _ = conn.Write(request)
				if e.message.ended {
					_ = conn.(*net.TCPConn).CloseWrite()
				}
			}()

			answers := strings.Count(strings.Join(e.want, "\n"), "< HTTP/1.")
			reader := bufio.NewReader(conn)
			method, _, _ := strings.Cut(string(request), " ")
			var got []string
			closed := answers == 0
			for range answers {
				var lines []string
				lines, closed = readAnswer(t, reader, method)
				got = append(got, lines...)
			}
			calls, logs := s.take()
			if len(logs) > 0 {
				got = append([]string{"= logged"}, got...)
			}
			for i := len(calls) - 1; i >= 0; i-- {
				got = append([]string{"= " + calls[i]}, got...)
			}
			if text := strings.Join(got, "\n"); text != strings.Join(e.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", text, strings.Join(e.want, "\n"))
			}
			switch {
			case e.message.ended:
			case closed:
				if rest, err := io.ReadAll(reader); len(rest) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
					t.Errorf("the connection has to be closed: %q, %v", rest, err)
				}
			default:
				if _, err := fmt.Fprintf(conn, again, h.Prefix); err != nil {
					t.Fatal(err)
				}
				if lines, _ := readAnswer(t, reader, "POST"); lines[0] != "< HTTP/1.1 200 OK" {
					t.Errorf("the next request on the connection gets %q", lines)
				}
			}
		})
	}
}

// readAnswer reads an answer of the server in the form of the table, without its date. It reports whether the server
// closes the connection after it.
func readAnswer(t *testing.T, r *bufio.Reader, method string) (lines []string, closed bool) {
	t.Helper()
	length := -1
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", lines, err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Date":
			continue
		case "Content-Length":
			length, err = strconv.Atoi(value)
			must.Do(t, err)
		case "Connection":
			closed = value == "close"
		}
		if line == "HTTP/1.0 200 OK" {
			closed = true // unless it says "Connection: keep-alive"
		}
		lines = append(lines, "< "+line)
	}
	if method == "HEAD" || length < 0 && !closed {
		length = 0
	}
	var body []byte
	var err error
	if length >= 0 {
		body = make([]byte, length)
		_, err = io.ReadFull(r, body)
	} else {
		body, err = io.ReadAll(r)
	}
	must.Do(t, err)
	if len(body) > 0 {
		lines = append(lines, "<", "< "+strings.ReplaceAll(strings.TrimSuffix(string(body), "\n"), "\n", "\n< "))
	}
	return lines, closed
}
