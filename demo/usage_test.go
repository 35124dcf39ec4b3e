package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/proc"
)

func TestWrongUsageIsOneSentence(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-hosts 0", "-hosts is 0: a fleet has from 1 to 200 hosts here"},
		{"-hosts 201", "-hosts is 201: a fleet has from 1 to 200 hosts here"},
		{"-hosts many", `invalid value "many" for flag -hosts: parse error`},
		{"-max 0", "-max is 0: it must be 1 or more, or no host could ever reboot"},
		{"-max -1", "-max is -1: it must be 1 or more, or no host could ever reboot"},
		{"-down -1s", "-down is -1s: it must be 0 or more"},
		{"-timeout -1s", "-timeout is -1s: it must be more than 0"},
		{"-update good", `-update is "good": make demo UPDATE=bad shows a new version that does not become well, and without UPDATE all goes well`},
		{"-max 1 3", `unexpected argument "3": only flags are taken, and -help shows them`},
		{"-bin /nonexistent", "find locksmithd: stat /nonexistent/locksmithd: no such file or directory; run `make demo`, which builds it, or name its folder with -bin"},
	} {
		t.Run(c.args, func(t *testing.T) {
			cmd, _ := command(t, strings.Fields(c.args)...)
			out, err := cmd.CombinedOutput()
			if proc.ExitStatus(err) != 2 || string(out) != "demo: "+c.want+"\n" {
				t.Errorf("%v: %q, want exit status 2: %q", err, out, c.want)
			}
		})
	}
}

func TestHelpSucceeds(t *testing.T) {
	cmd, _ := command(t, "-help")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("-max")) {
		t.Errorf("%v: %s", err, out)
	}
}
