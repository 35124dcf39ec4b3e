package main

import (
	"flag"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// What a script may set for the program under test: the user id that it believes to run as, and the time that it
// believes it is. Everything else is real.
const (
	euidVariable = "TEST_EUID"
	nowVariable  = "TEST_NOW" // RFC 3339
)

func TestMain(m *testing.M) {
	// Scripts wait for deadlines much more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"locksmithctl": func() { os.Exit(run(scriptedProcess())) },
		"locksmithd":   showDaemonSettings,
	})
}

// scriptedProcess is the process that a script starts.
func scriptedProcess() process {
	p := process{os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr, os.Geteuid(), time.Now}
	if v := os.Getenv(euidVariable); v != "" {
		uid, err := strconv.Atoi(v)
		if err != nil {
			panic(err)
		}
		p.euid = uid
	}
	if v := os.Getenv(nowVariable); v != "" {
		at, err := time.Parse(time.RFC3339, v)
		if err != nil {
			panic(err)
		}
		p.now = func() time.Time { return at }
	}
	return p
}
