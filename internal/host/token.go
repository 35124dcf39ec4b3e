package host

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/replacefile"
)

// tokenFile has the tokens, below root, in a line each, the newest first: the token, and the id of the boot in
// which it was made. The unit's ReadWritePaths= names its folder.
const tokenFile = "/var/lib/locksmith/token"

// keptTokens is how many tokens are kept: more than a host makes between taking a slot and coming back.
const keptTokens = 8

type token struct {
	value, boot string
}

// tokensOfEarlierBoots returns the tokens that a record from before this boot may have. A token of this boot does
// not show that the disk outlives a boot.
func tokensOfEarlierBoots(root, boot string) (earlier []string) {
	tokens, _ := readTokens(filepath.Join(root, tokenFile)) // unreadable is unknown
	for _, t := range tokens {
		if t.boot != boot {
			earlier = append(earlier, t.value)
		}
	}
	return earlier
}

// NewToken writes a new token of a boot to the host's disk and returns it. It is for a slot that is about to be
// taken: if a disk has the token of a slot after a reboot, that host has taken the slot, or is a later copy of it.
// Some older tokens are kept, because a slot may be held with one of them. If two processes do this at the same
// time, one of their tokens may be lost.
func NewToken(root string, boot Boot) (string, error) {
	path := filepath.Join(root, tokenFile)
	tokens, err := readTokens(path)
	if err != nil {
		return "", err // what cannot be read is not overwritten
	}
	var value [16]byte
	_, _ = rand.Read(value[:]) // never fails
	tokens = append([]token{{hex.EncodeToString(value[:]), boot.ID}}, tokens...)
	var content bytes.Buffer
	for _, t := range tokens[:min(keptTokens, len(tokens))] {
		fmt.Fprintln(&content, t.value, t.boot)
	}
	if err := replacefile.Write(path, content.Bytes(), 0o600, 0o700); err != nil {
		return "", err
	}
	return tokens[0].value, nil
}

// readTokens returns the tokens in a file, without malformed lines.
func readTokens(path string) (tokens []token, err error) {
	data, err := readfile.Read(path, 4096)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		value, boot, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := hex.DecodeString(value); err == nil && len(value) == 32 && boot != "" && strings.HasSuffix(line, "\n") {
			tokens = append(tokens, token{value, boot})
		}
	}
	return tokens, nil
}
