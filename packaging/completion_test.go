package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/realpart"
)

// Each shell loads the installed file and completes a word as for a user.
func TestShellsComplete(t *testing.T) {
	b := packages(t)
	share := filepath.Join(b.dir, "bin", "share")
	// This calls what bash calls for the word under the cursor, the last one of the line.
	const bash = `
. /usr/share/bash-completion/bash_completion
. "$SHARE/bash-completion/completions/locksmithctl"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<< "$1"
[[ $1 != *' ' ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
__start_locksmithctl
printf '%s\n' "${COMPREPLY[@]%% *}"
`
	// zsh completes only in an interactive shell on a terminal, which shows the whole line
	// after the one possible completion.
	const zsh = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT= PS2= RPROMPT=; unsetopt zle_bracketed_paste; fpath=($SHARE/zsh/vendor-completions \$fpath)"
zpty -w shell "autoload -Uz compinit && compinit -D -u; show() { print -r -- \"<\$BUFFER>\"; }; zle -N show; bindkey ^Y show; print rea''dy"
zpty -r shell out '*ready*'
zpty -w -n shell "$1"$'\t\C-y'
zpty -r shell out '*<*>*'
out=${out##*<}
print -r -- ${${(z)out%%>*}[-1]}
`
	const fish = `
set -p fish_complete_path $SHARE/fish/vendor_completions.d
complete -C $argv[1] | cut -f 1
`
	completes := error(nil)
	if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil {
		completes = &realpart.Missing{Part: "bash-completion", Remedy: "apt-get install bash-completion"}
	}
	shells := map[string][]string{
		"bash": {"--norc", "-c", bash, "bash"},
		"zsh":  {"-f", "-c", zsh, "zsh"},
		"fish": {"--no-config", "-c", fish},
	}
	for _, test := range []struct{ line, want string }{
		{"locksmithctl send", "send-need-reboot"},
		{"locksmithctl status --all", "--all-groups"},
		{"locksmithctl status -all", "-all-groups"},
		{"locksmithctl -endp", "-endpoint"},
		{"locksmithctl -group lb status -o js", "json"},
	} {
		for shell, args := range shells {
			t.Run(shell+" "+test.line, func(t *testing.T) {
				realpart.Must(t, realpart.Tool(shell, shell), completes)
				cmd := exec.Command(shell, append(slices.Clone(args), test.line)...)
				cmd.Env = append(os.Environ(), "SHARE="+share, "PATH="+filepath.Join(b.dir, "bin")+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "TERM=dumb")
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("run %s: %v", shell, err)
				}
				if got := strings.TrimSpace(string(out)); got != test.want {
					t.Errorf("it completes to %q, want %q", got, test.want)
				}
			})
		}
	}
}
