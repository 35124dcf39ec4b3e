// Package browser drives a real Chromium without a window, for tests of pages and for pictures of them.
//
// It speaks the DevTools protocol over a pipe, so that no port is open and the browser ends with this process.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/test/realpart"
)

// callTime is far more than a call takes on a slow machine.
const callTime = 60 * time.Second

// Browser is a process of Chromium. Its methods are safe for concurrent use.
type Browser struct {
	cmd     *exec.Cmd
	profile string
	to      *os.File
	stderr  lastLines

	mu      sync.Mutex
	next    int
	answers map[int]chan answer
	tabs    map[string]*Tab // by session
	ended   chan struct{}   // closed when Chromium says nothing more
}

type answer struct {
	result json.RawMessage
	err    error
}

// lastLines keeps the end of what a program writes.
type lastLines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-2000):]
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// Start starts Chromium. The error is a [realpart.Missing] if it is not installed. Close ends it.
func Start() (_ *Browser, err error) {
	if err := realpart.Tool("chromium", "chromium"); err != nil {
		return nil, err
	}
	b := &Browser{answers: map[int]chan answer{}, tabs: map[string]*Tab{}, ended: make(chan struct{})}
	if b.profile, err = os.MkdirTemp("", "chromium-"); err != nil {
		return nil, err
	}
	fromHere, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer fromHere.Close()
	from, toHere, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer toHere.Close()
	b.to = to
	b.cmd = exec.Command("chromium", "--headless=new", "--remote-debugging-pipe", "--user-data-dir="+b.profile,
		"--no-sandbox", // root has none, and the pages are our own
		"--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb",
		"--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "about:blank")
	b.cmd.ExtraFiles = []*os.File{fromHere, toHere}
	b.cmd.Env = append(os.Environ(), "HOME="+b.profile, "TZ=UTC", "LANG=C.UTF-8")
	b.cmd.Stderr = &b.stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.profile))
	}
	go b.read(from)
	return b, nil
}

// Close ends Chromium, and removes what it has written.
func (b *Browser) Close() error {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	_ = b.to.Close()
	_ = b.cmd.Wait() // it was killed
	return os.RemoveAll(b.profile)
}

// message is what Chromium says: an answer, or an event.
type message struct {
	ID        int             `json:"id"`
	SessionID string          `json:"sessionId"`
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params"`
	Result    json.RawMessage `json:"result"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func (b *Browser) read(from *os.File) {
	defer close(b.ended)
	defer from.Close()
	for r := bufio.NewReader(from); ; {
		data, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(data[:len(data)-1], &m) != nil {
			return
		}
		b.mu.Lock()
		if m.Method != "" {
			if t := b.tabs[m.SessionID]; t != nil {
				t.note(m)
			}
		} else if waits := b.answers[m.ID]; waits != nil {
			delete(b.answers, m.ID)
			a := answer{result: m.Result}
			if m.Error != nil {
				a.err = errors.New(m.Error.Message)
			}
			waits <- a
		}
		b.mu.Unlock()
	}
}

// call calls a method of the protocol; result may be nil.
func (b *Browser) call(session, method string, params, result any) error {
	b.mu.Lock()
	b.next++
	id := b.next
	waits := make(chan answer, 1)
	b.answers[id] = waits
	data, err := json.Marshal(map[string]any{"id": id, "sessionId": session, "method": method, "params": params})
	if session == "" {
		data, err = json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	}
	if err == nil {
		_, err = b.to.Write(append(data, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w; chromium said: %s", method, err, b.stderr.String())
	}
	select {
	case a := <-waits:
		if a.err != nil || result == nil {
			return wrap(method, a.err)
		}
		return wrap(method, json.Unmarshal(a.result, result))
	case <-b.ended:
		return fmt.Errorf("%s: %w; chromium said: %s", method, io.ErrUnexpectedEOF, b.stderr.String())
	case <-time.After(callTime):
		return fmt.Errorf("%s: %w; chromium said: %s", method, context.DeadlineExceeded, b.stderr.String())
	}
}

func wrap(method string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// Tab is a page in the browser.
type Tab struct {
	browser  *Browser
	session  string
	loaded   chan struct{} // gets a value at each load
	mu       sync.Mutex
	problems []string
}

// Tab opens an empty page.
func (b *Browser) Tab() (*Tab, error) {
	var target struct{ TargetID string }
	if err := b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return nil, err
	}
	t := &Tab{browser: b, loaded: make(chan struct{}, 16)}
	var attached struct{ SessionID string }
	if err := b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached); err != nil {
		return nil, err
	}
	t.session = attached.SessionID
	b.mu.Lock()
	b.tabs[t.session] = t
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Accessibility"} {
		if err := t.Call(domain+".enable", nil, nil); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// note notes an event.
func (t *Tab) note(m message) {
	switch m.Method {
	case "Page.loadEventFired":
		select {
		case t.loaded <- struct{}{}:
		default:
		}
	case "Runtime.exceptionThrown", "Log.entryAdded":
		t.mu.Lock()
		defer t.mu.Unlock()
		t.problems = append(t.problems, string(m.Params))
	}
}

// Problems returns what the page has done wrong: exceptions of its scripts, and what the browser has logged, such as
// breaches of its Content-Security-Policy.
func (t *Tab) Problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.problems...)
}

// Call calls a method of the DevTools protocol for this page; result may be nil.
func (t *Tab) Call(method string, params, result any) error {
	if params == nil {
		params = struct{}{}
	}
	return t.browser.call(t.session, method, params, result)
}

// Open loads an address.
func (t *Tab) Open(url string) error {
	for len(t.loaded) > 0 {
		<-t.loaded
	}
	var failed struct{ ErrorText string }
	if err := t.Call("Page.navigate", map[string]any{"url": url}, &failed); err != nil {
		return err
	}
	if failed.ErrorText != "" {
		return fmt.Errorf("open %s: %s", url, failed.ErrorText)
	}
	select {
	case <-t.loaded:
		return nil
	case <-time.After(callTime):
		return fmt.Errorf("open %s: %w", url, context.DeadlineExceeded)
	}
}

// Eval evaluates JavaScript, also where the page's own may not run, and waits for a promise. result may be nil.
func (t *Tab) Eval(expression string, result any) error {
	var value struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := t.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &value)
	switch {
	case err != nil:
		return err
	case value.ExceptionDetails != nil:
		return fmt.Errorf("evaluate %s: %s %s", expression, value.ExceptionDetails.Text, value.ExceptionDetails.Exception.Description)
	case result == nil:
		return nil
	}
	return json.Unmarshal(value.Result.Value, result)
}

// Size makes the page so many pixels wide and high. A narrow one is that of a phone.
func (t *Tab) Size(width, height int) error {
	return t.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Dark sets whether the page is asked to be dark.
func (t *Tab) Dark(dark bool) error {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return t.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Scripts sets whether scripts of pages that are opened from now on run.
func (t *Tab) Scripts(run bool) error {
	return t.Call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !run}, nil)
}

// Picture returns what can be seen, as PNG.
func (t *Tab) Picture() ([]byte, error) {
	var shot struct{ Data string }
	if err := t.Call("Page.captureScreenshot", map[string]any{"format": "png", "optimizeForSpeed": false}, &shot); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(shot.Data)
}

// Node is what a screen reader is told of a part of a page.
type Node struct{ Role, Name string }

// Accessibility returns what a screen reader is told of the page, in order, without what it leaves out.
func (t *Tab) Accessibility() ([]Node, error) {
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	if err := t.Call("Accessibility.getFullAXTree", nil, &tree); err != nil {
		return nil, err
	}
	var nodes []Node
	for _, n := range tree.Nodes {
		if role, _ := n.Role.Value.(string); !n.Ignored {
			name, _ := n.Name.Value.(string)
			nodes = append(nodes, Node{role, name})
		}
	}
	return nodes, nil
}
